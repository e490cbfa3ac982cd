//! Letters and telephone calls as files, opened by `pyrage` (age) and read by `pypdf`.

use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use exchange::{CallOptions, FileOptions, FileWay, LetterDelivered, LetterOptions, Price};
use jiff::civil::{Time, Weekday};
use jiff::tz::TimeZone;
use serde_json::{Value, json};
use tempfile::TempDir;
use trust::consent::{Hours, QuietHours, Sort, Topic, Via, Window};
use trust::outgoing::{CHANNEL_LETTER_BATCH, Message};

use crate::patience::Patience;
use crate::world::{NOW_MS, World};

pub(crate) const HOUR_MS: u64 = 3_600_000;

/// The world's clock begins at 2026-10-26T07:33:20Z. Batches are closed at eight.
const CLOSES: Time = Time::constant(8, 0, 0, 0);

/// A partner: what it is bound to, its key, and its folders.
pub(crate) struct Partner {
    pub(crate) policies: TempDir,
    place: TempDir,
    secret: String,
    recipient: String,
}

fn python() -> PathBuf {
    let workspace = Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("the workspace");
    let python = workspace.join("target/peers/files/bin/python");
    assert!(
        python.exists(),
        "the tests need readers of files: run scripts/test once, or make {} (python3 -m venv) and install pyrage and pypdf into it",
        python.display()
    );
    python
}

fn ask(arguments: &[&str]) -> Value {
    let script = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/peers/files.py");
    let output = Command::new(python())
        .arg(script)
        .args(arguments)
        .output()
        .expect("it runs");
    let error = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{arguments:?}: {error}");
    serde_json::from_slice(&output.stdout).expect("JSON")
}

pub(crate) const BOUND: &str = "[[partner]]\nname = 'printer'\ntitle = 'Printer'\ncarries = ['letters', 'calls']\n\
                     contract = 'baa'\nuntil = '2099-12-31'\ndata = ['identity', 'contact', 'health']\npurposes = ['TREAT']\n";

impl Partner {
    pub(crate) fn new(bound: &str) -> Self {
        let (policies, place) = (
            tempfile::tempdir().expect("a folder"),
            tempfile::tempdir().expect("a folder"),
        );
        for (name, text) in trust::PolicySet::built_in_files() {
            std::fs::write(policies.path().join(name), text).expect("written");
        }
        std::fs::write(policies.path().join("partners.toml"), bound).expect("written");
        for name in ["out", "back", "taken"] {
            std::fs::create_dir(place.path().join(name)).expect("a folder");
        }
        let key = ask(&["new"]);
        let text = |name: &str| key[name].as_str().expect("a key").to_owned();
        Self {
            policies,
            place,
            secret: text("secret"),
            recipient: text("recipient"),
        }
    }

    fn at(&self, name: &str) -> PathBuf {
        self.place.path().join(name)
    }

    fn options(&self, way: FileWay) -> FileOptions {
        FileOptions {
            way,
            folder: self.at("out"),
            returns: self.at("back"),
            recipient: self.recipient.clone(),
            closes: vec![CLOSES],
            zone: TimeZone::UTC,
            size: 100,
            per_day: None,
            price: Price::parse("0.85", "EUR"),
            portal_base: "https://portal.example".to_owned(),
        }
    }

    pub(crate) fn letters(&self) -> FileOptions {
        self.options(FileWay::Letters(LetterOptions {
            sender: "Northmoor General, 1 Hill Road".to_owned(),
            foot: "Read it in the portal too:".to_owned(),
            country: Some("US".to_owned()),
            class: "standard".to_owned(),
            pressing_class: "first".to_owned(),
            delivered_when: LetterDelivered::Posted,
            font: None,
        }))
    }

    pub(crate) fn calls(&self) -> FileOptions {
        self.options(FileWay::Calls(CallOptions {
            from: Time::constant(9, 0, 0, 0),
            until: Time::constant(20, 0, 0, 0),
            tries: 3,
        }))
    }

    /// The files of a folder, opened: by name, and names of those that are none of ours.
    pub fn open(&self, name: &str) -> (BTreeMap<String, Value>, Vec<String>) {
        let folder = self.at(name);
        let found = ask(&["open", folder.to_str().expect("a path"), &self.secret]);
        let files = found["files"].as_object().expect("files").clone();
        let failed = serde_json::from_value(found["failed"].clone()).expect("names");
        (files.into_iter().collect(), failed)
    }

    /// The rows of all lists of a folder.
    pub(crate) fn rows(&self, name: &str) -> Vec<Value> {
        let (files, _) = self.open(name);
        let lists = files.values().filter_map(|file| file["rows"].as_array());
        lists.flatten().cloned().collect()
    }

    /// Tells what became of messages, as a partner does: under another name first.
    fn tells(&self, name: &str, lines: &str) {
        let begun = self.at("back").join(format!(".{name}"));
        std::fs::write(&begun, lines).expect("written");
        std::fs::rename(begun, self.at("back").join(name)).expect("renamed");
    }

    async fn was_read(&self, name: &str) {
        let mut patience = Patience::new();
        while !self.at("back").join("done").join(name).exists() {
            patience.wait("the list is not read").await;
        }
    }
}

pub(crate) fn letter(message: &mut Message) {
    message.channel = "letter".to_owned();
    message.subject.clear();
    message.text.clear();
    message.language = Some("en".to_owned());
    message.expires_ms = Some(NOW_MS + 240 * HOUR_MS);
}

pub(crate) fn call(message: &mut Message) {
    message.channel = "voice".to_owned();
    message.subject.clear();
    message.text = "Hello. There is a message for you from your care team.".to_owned();
    message.language = Some("en".to_owned());
    message.expires_ms = Some(NOW_MS + 72 * HOUR_MS);
}

pub(crate) fn home() -> (&'static str, Value) {
    let address = json!([{"use": "home", "line": ["12 Alder Street"], "city": "Ashbrook", "state": "MA", "postalCode": "01991", "country": "US"}]);
    ("address", address)
}

/// Waits until the outbox has nothing of this in it.
pub(crate) async fn until_handed(world: &World) {
    let mut patience = Patience::new();
    while !world.outbox().await.is_empty() {
        patience.wait("messages wait still").await;
    }
}

#[tokio::test]
async fn a_batch_is_closed_at_its_time_and_each_letter_is_one_pdf_that_the_partner_alone_opens() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let patient = world
        .patient(&[
            home(),
            ("name", json!([{"family": "Größler", "given": ["Ottilie"]}])),
        ])
        .await;
    let id = world.queue(&patient, letter).await;
    let running = world.run_files(partner.letters());
    tokio::time::sleep(Duration::from_millis(1_500)).await;
    assert_eq!(
        partner.open("out"),
        (BTreeMap::new(), Vec::new()),
        "its time has not come"
    );
    world.clock.set(NOW_MS + HOUR_MS);
    let found = world.wait_for(&patient, &id, "in-progress").await;
    until_handed(&world).await;
    running.stop().await;
    let (files, others) = partner.open("out");
    assert_eq!(
        others,
        Vec::<String>::new(),
        "nothing stands there that isn't sealed or isn't whole"
    );
    let rows = partner.rows("out");
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    let file = &files[row["file"].as_str().expect("a file")];
    for (name, expected) in [
        ("id", id.as_str()),
        ("pages", "1"),
        ("class", "standard"),
        ("due", "2026-11-05"),
        ("name", "Ottilie Größler"),
        ("line1", "12 Alder Street"),
        ("postal_code", "01991"),
        ("city", "Ashbrook"),
        ("state", "MA"),
        ("country", "US"),
    ] {
        assert_eq!(row[name], expected, "{name}");
    }
    assert_eq!(row["sha256"], file["sha256"]);
    assert_eq!(file["pages"], 1);
    let text = file["text"].as_str().expect("text");
    for expected in [
        "Ottilie Größler",
        "12 Alder Street",
        "Ashbrook MA 01991",
        "How you are",
        "How are you today?",
        "Northmoor General",
        "https://portal.example",
        "2026-10-26",
    ] {
        assert!(text.contains(expected), "{expected} in {text}");
    }
    assert!(
        !text.contains("\nUS"),
        "a letter that stays in its country doesn't name it"
    );
    // Until it is posted it counts as under way; what it costs is known.
    let _ = found;
    let found = world.communication(&patient, &id).await;
    assert_eq!(found["status"], "in-progress");
    assert!(found["sent"].is_string(), "{found}");
    let cost = found["extension"].as_array().expect("extensions").iter();
    let cost = cost
        .filter(|one| one["url"] == "urn:cairn:message-cost")
        .map(|one| one["valueMoney"].clone());
    assert_eq!(
        cost.collect::<Vec<_>>(),
        [json!({"value": 0.85, "currency": "EUR"})]
    );
    partner.tells("one.csv", &format!("id,state,time\r\n{id},printed,2026-10-26T08:00:00Z\r\n{id},posted,2026-10-26T09:00:00Z\r\n"));
    let running = world.run_files(partner.letters());
    let found = world.wait_for(&patient, &id, "completed").await;
    partner.was_read("one.csv").await;
    assert!(
        found
            .to_string()
            .contains("Receipt: posted (2026-10-26T09:00:00"),
        "{found}"
    );
    running.stop().await;
    assert!(!partner.at("back").join("rejected").exists());
}

#[tokio::test]
async fn all_is_asked_again_when_a_batch_is_closed() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let confidential = json!([{"url": "urn:cairn:confidential-channel", "valueBoolean": true}]);
    let asked = json!([
        {"use": "home", "line": ["12 Alder Street"], "city": "Ashbrook", "postalCode": "01991"},
        {"use": "temp", "line": ["Box 77"], "city": "Elsewhere", "postalCode": "02000", "extension": confidential}
    ]);
    let mail =
        json!([{"system": "email", "value": "only@here.example", "extension": confidential}]);
    let mut cases = Vec::new();
    for (name, change, expected) in [
        ("goes", vec![home()], None),
        ("goes where they asked", vec![("address", asked)], None),
        ("dies", vec![home()], Some("deceased")),
        ("withdraws", vec![home()], Some("consent")),
        ("moves away", vec![home()], Some("no-address")),
        (
            "asked for mail alone",
            vec![home(), ("telecom", mail)],
            Some("no-address"),
        ),
        ("wants none", vec![home()], Some("unwelcome")),
        ("is called off", vec![home()], Some("stopped")),
        (
            "can't be printed",
            vec![home(), ("name", json!([{"family": "王"}]))],
            Some("unprintable"),
        ),
        ("is late", vec![home()], Some("expired")),
    ] {
        let patient = world.patient(&change).await;
        let id = world
            .queue(&patient, |message| {
                letter(message);
                message.sort = Some(
                    serde_json::from_value::<Sort>(json!({"topic": "care", "pressing": "routine"}))
                        .expect("a sort"),
                );
                if name == "is late" {
                    message.expires_ms = Some(NOW_MS + 1_000);
                }
            })
            .await;
        cases.push((name, patient, id, expected));
    }
    // After they were queued.
    for (name, patient, id, _) in &cases {
        let mut record = world.record(patient).await;
        match *name {
            "dies" => record["deceasedBoolean"] = json!(true),
            "withdraws" => world.consent(patient, "inactive").await,
            "moves away" => record["address"][0]["use"] = json!("old"),
            "wants none" => {
                crate::wishes::say(&world, patient, |wishes| {
                    wishes.set_ways(Topic::Care, Some(vec![Via::Email]));
                })
                .await;
            }
            "is called off" => {
                let mut found = world.communication(patient, id).await;
                found["status"] = json!("stopped");
                world.put(patient, found).await;
            }
            _ => {}
        }
        if matches!(*name, "dies" | "moves away") {
            world.put(patient, record).await;
        }
    }
    world.clock.set(NOW_MS + HOUR_MS);
    let running = world.run_files(partner.letters());
    until_handed(&world).await;
    running.stop().await;
    let rows = partner.rows("out");
    for (name, patient, id, expected) in &cases {
        let found = world.communication(patient, id).await;
        let row = rows.iter().find(|row| row["id"] == id.as_str());
        match expected {
            None => {
                let row = row.unwrap_or_else(|| panic!("{name}: {found}"));
                let line = if *name == "goes" {
                    "12 Alder Street"
                } else {
                    "Box 77"
                };
                assert_eq!(row["line1"], line, "{name}");
            }
            Some("stopped") => assert!(
                row.is_none() && found["status"] == "stopped",
                "{name}: {found}"
            ),
            Some(code) => {
                assert!(row.is_none(), "{name}");
                assert_eq!(found["status"], "not-done", "{name}: {found}");
                assert_eq!(found["statusReason"]["coding"][0]["code"], *code, "{name}");
            }
        }
    }
    assert_eq!(rows.len(), 2);
}

#[tokio::test]
async fn who_is_not_bound_or_cleared_gets_nothing() {
    for (bound, expected) in [
        (BOUND.replace("2099-12-31", "2026-10-01"), "no-contract"),
        (
            BOUND.replace("'contact', 'health'", "'contact'"),
            "not-cleared",
        ),
        (BOUND.replace("'TREAT'", "'CAREMGT'"), "not-cleared"),
        (
            BOUND.replace("['letters', 'calls']", "['calls']"),
            "no-contract",
        ),
    ] {
        let partner = Partner::new(&bound);
        let world = World::under(partner.policies.path()).await;
        let patient = world.patient(&[home()]).await;
        let id = world.queue(&patient, letter).await;
        world.clock.set(NOW_MS + HOUR_MS);
        let running = world.run_files(partner.letters());
        let found = world.wait_for(&patient, &id, "not-done").await;
        running.stop().await;
        assert_eq!(
            found["statusReason"]["coding"][0]["code"], expected,
            "{bound}"
        );
        assert_eq!(partner.open("out"), (BTreeMap::new(), Vec::new()));
    }
}

/// What anybody may hear who answers the telephone has nothing of the patient in it; the list has the number, and hours by
/// the patient's own clock, outside of quiet ones.
#[tokio::test]
async fn calls_are_listed_with_number_words_and_hours_and_without_patient_details() {
    // A partner who calls need not be cleared for health.
    let partner = Partner::new(&BOUND.replace("'identity', 'contact', 'health'", "'contact'"));
    let world = World::under(partner.policies.path()).await;
    let zone = json!([{"url": "http://hl7.org/fhir/StructureDefinition/tz-code", "valueCode": "America/New_York"}]);
    let quiet = |from: i8, until: i8| QuietHours {
        from: Time::constant(from, 0, 0, 0),
        until: Time::constant(until, 0, 0, 0),
    };
    let hours = |quiet| Hours {
        zone: "UTC".to_owned(),
        quiet,
        ..Hours::default()
    };
    let patient = world.patient(&[("extension", zone)]).await;
    let id = world
        .queue(&patient, |message| {
            call(message);
            message.script = Some("12".to_owned());
            message.hours = Some(hours(Some(quiet(18, 11))));
        })
        .await;
    let planted = world.patient(&[]).await;
    let told = world
        .queue(&planted, |message| {
            call(message);
            message.text = "Hello Ottilie Quandt, your result is here.".to_owned();
        })
        .await;
    let none = world
        .patient(&[(
            "telecom",
            json!([{"system": "sms", "value": "+1-617-555-0142"}]),
        )])
        .await;
    let nobody = world.queue(&none, call).await;
    // Half past one in New York.
    world.clock.set(NOW_MS + 10 * HOUR_MS);
    let running = world.run_files(partner.calls());
    let refused = world.wait_for(&planted, &told, "not-done").await;
    assert_eq!(refused["statusReason"]["coding"][0]["code"], "phi-guard");
    let refused = world.wait_for(&none, &nobody, "not-done").await;
    assert_eq!(refused["statusReason"]["coding"][0]["code"], "no-address");
    until_handed(&world).await;
    let rows = partner.rows("out");
    let [row] = rows.as_slice() else {
        panic!("{rows:?}")
    };
    for (name, expected) in [
        ("id", id.as_str()),
        ("number", "+16175550142"),
        ("language", "en"),
        ("script", "12"),
        ("tries", "3"),
        (
            "words",
            "Hello. There is a message for you from your care team.",
        ),
        ("zone", "America/New_York"),
        ("from", "2026-10-26T13:35:00-04:00"),
        ("until", "2026-10-26T18:00:00-04:00"),
    ] {
        assert_eq!(row[name], expected, "{name}");
    }
    let whole = row.to_string();
    for detail in ["Quandt", "Ottilie", "1941", "MRN", "Alder"] {
        assert!(!whole.contains(detail), "{detail} in {whole}");
    }
    // Nobody answered, so the journey has to go another way.
    partner.tells(
        "calls.csv",
        &format!("{id},dialled,2026-10-26T16:00:00Z\n{id},no answer,2026-10-26T16:05:00Z\n"),
    );
    let found = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(found["statusReason"]["coding"][0]["code"], "no-answer");
    partner.was_read("calls.csv").await;
    running.stop().await;
}

/// When a list is closed matters to nobody's sleep: what matters is when the telephone rings.
#[tokio::test]
async fn a_call_whose_list_is_closed_at_night_is_made_by_day_and_waits_only_where_no_hour_is_near()
{
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let night = Hours {
        zone: "UTC".to_owned(),
        quiet: Some(QuietHours {
            from: Time::constant(5, 0, 0, 0),
            until: Time::constant(10, 0, 0, 0),
        }),
        ..Hours::default()
    };
    // It is Monday; two days on there is no hour for this one yet.
    let on_fridays = Hours {
        window: Some(Window {
            from: Time::constant(14, 0, 0, 0),
            until: Time::constant(15, 0, 0, 0),
            days: vec![Weekday::Friday],
        }),
        ..night.clone()
    };
    let never = Hours {
        quiet: Some(QuietHours {
            from: Time::constant(8, 0, 0, 0),
            until: Time::constant(21, 0, 0, 0),
        }),
        ..night.clone()
    };
    let patient = world.patient(&[home()]).await;
    let queue = async |hours: &Hours, for_h: u64| {
        let change = |message: &mut Message| {
            call(message);
            message.hours = Some(hours.clone());
            message.expires_ms = Some(NOW_MS + for_h * HOUR_MS);
        };
        world.queue(&patient, change).await
    };
    let (rung, later) = (queue(&night, 72).await, queue(&on_fridays, 240).await);
    let refused = queue(&never, 24).await;
    let posted = world
        .queue(&patient, |message| {
            letter(message);
            message.hours = Some(night.clone());
        })
        .await;
    // Half past eight, which is night to all of them.
    world.clock.set(NOW_MS + HOUR_MS);
    let letters = world.run_files(partner.letters());
    world.wait_for(&patient, &posted, "in-progress").await;
    letters.stop().await;
    let calls = world.run_files(partner.calls());
    until_is(&world, &patient, &rung).await;
    let found = world.wait_for(&patient, &refused, "not-done").await;
    assert_eq!(found["statusReason"]["coding"][0]["code"], "quiet-hours");
    let waits = world.communication(&patient, &later).await;
    let words = waits["statusReason"]["text"].as_str();
    assert!(
        words.is_some_and(|words| words.contains("quiet hours")),
        "{waits}"
    );
    let row = |id: &str| partner.rows("out").into_iter().find(|row| row["id"] == id);
    let listed = row(&rung).expect("a row");
    assert_eq!(listed["from"], "2026-10-26T10:00:00+00:00");
    assert_eq!(listed["until"], "2026-10-26T20:00:00+00:00");
    assert!(row(&later).is_none() && row(&refused).is_none());
    // The list of Thursday reaches to Friday.
    world.clock.set(NOW_MS + 73 * HOUR_MS);
    until_is(&world, &patient, &later).await;
    calls.stop().await;
    let listed = row(&later).expect("a row");
    assert_eq!(listed["from"], "2026-10-30T14:00:00+00:00");
    assert_eq!(listed["until"], "2026-10-30T15:00:00+00:00");
}

/// A message that was held and let go again has two entries in the outbox.
#[tokio::test]
async fn a_message_that_was_held_and_let_go_stands_in_a_batch_once() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let patient = world.patient(&[home()]).await;
    let (posted, rung) = (
        world.queue(&patient, letter).await,
        world.queue(&patient, call).await,
    );
    for entry in world.outbox().await {
        world.queue_again(&patient, &entry, 60_000).await;
    }
    assert_eq!(world.outbox().await.len(), 4);
    world.clock.set(NOW_MS + HOUR_MS);
    let (letters, calls) = (
        world.run_files(partner.letters()),
        world.run_files(partner.calls()),
    );
    until_handed(&world).await;
    // One that comes after its batch is for nothing, too.
    let found = world.communication(&patient, &posted).await;
    assert_eq!(found["status"], "in-progress", "{found}");
    letters.stop().await;
    calls.stop().await;
    let mut ids: Vec<String> = (partner.rows("out").iter())
        .filter_map(|row| row["id"].as_str().map(str::to_owned))
        .collect();
    ids.sort_unstable();
    let mut expected = [posted, rung];
    expected.sort_unstable();
    assert_eq!(ids, expected);
    let pdfs = partner.open("out").0;
    let pdfs = pdfs.keys().filter(|name| name.contains(".pdf")).count();
    assert_eq!(pdfs, 1);
}

/// What a batch takes is refused once it takes no more, as where another server has shut it meanwhile.
#[tokio::test]
async fn nothing_is_put_into_a_batch_that_was_shut_meanwhile() {
    const MESSAGES: usize = 40;
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let mut queued = Vec::new();
    for _ in 0..MESSAGES {
        let patient = world.patient(&[home()]).await;
        let id = world.queue(&patient, letter).await;
        queued.push((patient, id));
    }
    world.clock.set(NOW_MS + HOUR_MS);
    // Two on one store: the second finds what the first decides on still, and shuts it.
    let first = world.run_files(partner.letters());
    let mut patience = Patience::new();
    while !(world.outbox().await.iter()).any(|entry| entry.channel == CHANNEL_LETTER_BATCH) {
        patience.wait("no batch begins").await;
    }
    let second = world.run_files(partner.letters());
    until_handed(&world).await;
    first.stop().await;
    second.stop().await;
    let rows = partner.rows("out");
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!((rows.len(), ids.len()), (MESSAGES, MESSAGES));
    for (patient, id) in &queued {
        let found = world.communication(patient, id).await;
        assert!(found["sent"].is_string(), "{found}");
    }
}

/// The partner writes into both folders, and may put a link wherever a name is looked up.
#[cfg(unix)]
#[tokio::test]
async fn no_link_that_a_partner_plants_is_followed() {
    use std::os::unix::fs::symlink;
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let patient = world.patient(&[home()]).await;
    let id = world.queue(&patient, letter).await;
    let (secret, elsewhere) = (partner.at("secret"), partner.at("taken"));
    std::fs::write(&secret, "a root key").expect("written");
    world.clock.set(NOW_MS + HOUR_MS);
    let running = world.run_files(partner.letters());
    until_is(&world, &patient, &id).await;
    symlink(&secret, partner.at("back").join("a.csv")).expect("a link");
    symlink(&elsewhere, partner.at("back").join("rejected")).expect("a link");
    partner.tells("b.csv", "whatever,a root key,stands,here\n");
    tokio::time::sleep(Duration::from_millis(3_500)).await;
    assert_eq!(std::fs::read_dir(&elsewhere).expect("listed").count(), 0);
    assert!(partner.at("back").join("b.csv").exists(), "it stays");
    running.stop().await;
    std::fs::remove_file(partner.at("back").join("rejected")).expect("removed");
    let running = world.run_files(partner.letters());
    partner.was_read("b.csv").await;
    running.stop().await;
    let rejected = std::fs::read_to_string(partner.at("back/rejected/b.csv")).expect("rejected");
    assert!(!rejected.contains("stands"), "{rejected}");
    assert!(!partner.at("back/rejected/a.csv").exists());
    assert!(!partner.at("back/done/a.csv").exists());
    assert_eq!(std::fs::read(&secret).expect("read"), b"a root key");
}

#[tokio::test]
async fn no_more_are_handed_over_on_a_day_than_was_said_and_a_full_batch_waits_for_no_time() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    // As many as a batch takes don't wait for its time, and one fewer does.
    for (count, expected) in [(2, 0), (1, 3)] {
        for _ in 0..count {
            let patient = world.patient(&[home()]).await;
            world.queue(&patient, letter).await;
        }
        let running = world.run_files(FileOptions {
            size: 3,
            ..partner.letters()
        });
        tokio::time::sleep(Duration::from_millis(1_500)).await;
        running.stop().await;
        assert_eq!(partner.rows("out").len(), expected);
    }
    for entry in std::fs::read_dir(partner.at("out")).expect("listed") {
        std::fs::remove_file(entry.expect("an entry").path()).expect("removed");
    }
    let mut all = Vec::new();
    for _ in 0..7 {
        let patient = world.patient(&[home()]).await;
        all.push((patient.clone(), world.queue(&patient, letter).await));
    }
    // One of them gives its place of the day back.
    let mut record = world.record(&all[0].0).await;
    record["deceasedBoolean"] = json!(true);
    world.put(&all[0].0, record).await;
    world.clock.set(NOW_MS + HOUR_MS);
    let running = world.run_files(FileOptions {
        size: 3,
        per_day: Some(5),
        ..partner.letters()
    });
    let mut patience = Patience::new();
    while partner.rows("out").len() < 5 {
        patience.wait("five are not there").await;
    }
    tokio::time::sleep(Duration::from_millis(2_500)).await;
    assert_eq!(partner.rows("out").len(), 5);
    // The next day has room again.
    world.clock.set(NOW_MS + 25 * HOUR_MS);
    until_handed(&world).await;
    running.stop().await;
    let rows = partner.rows("out");
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!((rows.len(), ids.len()), (6, 6));
}

#[tokio::test]
async fn lines_that_say_nothing_are_kept_with_their_reason_and_the_rest_counts() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let patient = world.patient(&[home()]).await;
    let id = world.queue(&patient, letter).await;
    let waits = world
        .queue_for(&patient, 480 * HOUR_MS, |message| {
            letter(message);
            message.expires_ms = None;
        })
        .await;
    world.clock.set(NOW_MS + HOUR_MS);
    let running = world.run_files(partner.letters());
    until_is(&world, &patient, &id).await;
    let lines = format!(
        "id,state,time\n{id},posted\n{id},eaten,2026-10-26T09:00:00Z\n{id},posted,yesterday\n{id},posted,2036-01-01T00:00:00Z\n\
         not an id,posted,2026-10-26T09:00:00Z\n00000000-0000-0000-0000-000000000000,posted,2026-10-26T09:00:00Z\n\
         {waits},posted,2026-10-26T09:00:00Z\n{id},answered,2026-10-26T09:00:00Z\n{id},returned,2026-10-26T09:00:00Z\n"
    );
    partner.tells("mixed.csv", &lines);
    let found = world.wait_for(&patient, &id, "not-done").await;
    assert_eq!(found["statusReason"]["coding"][0]["code"], "returned");
    partner.was_read("mixed.csv").await;
    let rejected =
        std::fs::read_to_string(partner.at("back").join("rejected/mixed.csv")).expect("rejected");
    let numbers: Vec<&str> = rejected
        .lines()
        .skip(1)
        .filter_map(|line| line.split(',').next())
        .collect();
    assert_eq!(
        numbers,
        ["2", "3", "4", "5", "6", "7", "8", "9"],
        "{rejected}"
    );
    for reason in [
        "three columns",
        "state is none",
        "time is none",
        "yet to come",
        "no id",
        "no such message",
        "not handed over to this partner",
    ] {
        assert!(rejected.contains(reason), "{reason} in {rejected}");
    }
    // What is read again changes nothing.
    let before = world.communication(&patient, &id).await;
    partner.tells("mixed.csv", &lines);
    let mut patience = Patience::new();
    while !partner.at("back/done/mixed.csv.2").exists() {
        patience.wait("the list is not read again").await;
    }
    assert_eq!(world.communication(&patient, &id).await, before);
    running.stop().await;
}

/// Lists are read by name, and partners send old ones late.
#[tokio::test]
async fn a_letter_that_came_back_has_not_arrived_whichever_is_told_first() {
    let partner = Partner::new(BOUND);
    let world = World::under(partner.policies.path()).await;
    let patient = world.patient(&[home()]).await;
    let id = world.queue(&patient, letter).await;
    world.clock.set(NOW_MS + HOUR_MS);
    let running = world.run_files(partner.letters());
    until_is(&world, &patient, &id).await;
    partner.tells("back.csv", &format!("{id},returned,2026-10-26T12:00:00Z\n"));
    world.wait_for(&patient, &id, "not-done").await;
    partner.was_read("back.csv").await;
    partner.tells("gone.csv", &format!("{id},posted,2026-10-26T09:00:00Z\n"));
    partner.was_read("gone.csv").await;
    running.stop().await;
    let found = world.communication(&patient, &id).await;
    assert_eq!(found["status"], "not-done", "{found}");
    assert_eq!(found["statusReason"]["coding"][0]["code"], "returned");
    let extensions = found["extension"].as_array().expect("extensions");
    let state = extensions
        .iter()
        .find(|one| one["url"] == trust::conventions::FILE_STATE_URL);
    assert_eq!(state.expect("a state")["valueCode"], "returned");
    assert!(found.to_string().contains("Receipt: posted"), "{found}");
}

/// Waits until a message was handed over.
async fn until_is(world: &World, patient: &str, id: &str) {
    let mut patience = Patience::new();
    while !world.communication(patient, id).await["sent"].is_string() {
        patience.wait("it is not handed over").await;
    }
}

/// The partner takes files away while the deliverer is killed again and again, with the store closed and opened each time.
#[tokio::test]
async fn killed_again_and_again_it_loses_no_letter_and_what_comes_twice_is_the_same_file() {
    const MESSAGES: usize = 60;
    let partner = Partner::new(BOUND);
    let mut world = World::under(partner.policies.path()).await;
    let mut queued = Vec::new();
    for _ in 0..MESSAGES {
        let patient = world.patient(&[home()]).await;
        let id = world.queue(&patient, letter).await;
        queued.push((patient, id));
    }
    world.clock.set(NOW_MS + HOUR_MS);
    let mut repeated = 0;
    let mut kills = 0;
    // From before anything to after all of it, and on.
    for after_ms in (0..).map(|step| 5 + step * 17) {
        let running = world.run_files(FileOptions {
            size: 20,
            ..partner.letters()
        });
        tokio::time::sleep(Duration::from_millis(after_ms)).await;
        let is_over = world.outbox().await.is_empty();
        running.kill().await;
        kills += 1;
        for entry in std::fs::read_dir(partner.at("out")).expect("listed") {
            let path = entry.expect("an entry").path();
            let name = path
                .file_name()
                .and_then(|name| name.to_str())
                .expect("a name")
                .to_owned();
            if name.starts_with('.') {
                continue;
            }
            let taken = partner.at("taken").join(&name);
            let content = std::fs::read(&path).expect("read");
            if let Ok(before) = std::fs::read(&taken) {
                assert!(before == content, "{name} comes again, and is another file");
                repeated += 1;
            }
            std::fs::rename(&path, &taken).expect("taken");
        }
        world = world.reopen_under(partner.policies.path()).await;
        if is_over {
            break;
        }
        assert!(kills < 200, "it doesn't come to an end");
    }
    let (files, _) = partner.open("taken");
    let rows = partner.rows("taken");
    let ids: BTreeSet<&str> = rows.iter().filter_map(|row| row["id"].as_str()).collect();
    assert_eq!(
        (rows.len(), ids.len()),
        (MESSAGES, MESSAGES),
        "each stands in one list, once"
    );
    for row in &rows {
        let file = &files[row["file"].as_str().expect("a file")];
        assert_eq!(file["sha256"], row["sha256"]);
    }
    for (patient, id) in &queued {
        assert!(ids.contains(id.as_str()));
        let found = world.communication(patient, id).await;
        assert!(found["sent"].is_string(), "{found}");
    }
    println!(
        "{kills} kills, {repeated} files came again, {} files",
        files.len()
    );
}
