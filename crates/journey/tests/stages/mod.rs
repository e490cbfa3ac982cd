//! Versions on their way: drafts, those that are staged for some, live ones and retired ones; and on which of
//! them new patients start.

use crate::world::{DAY, Mail, TENANT, World};
use journey::{JourneyError, Journeys, Rollout, VersionStage, VersionView};
use serde_json::json;
use std::collections::BTreeMap;
use trust::{Action, Permit, Role, kinds};

const NAME: &str = "short";

/// A journey of a day; `words` tell its versions apart.
fn source(words: &str) -> String {
    format!(
        "name: {NAME}
title: A short one
owner: Team
purpose: TREAT
at_most: 30d
entry:
  event: Procedure
  where: status = 'completed'
  anchors: {{done: performedDateTime}}
  within: 3d
  per: event
exits:
  death: {{title: Died, event: Patient, where: deceased.exists()}}
  consent: {{title: Consent withdrawn, consent: withdrawn}}
start: rest
steps:
  rest: {{title: {words}, wait: {{for: 1d}}, next: end}}
"
    )
}

async fn squad(world: &World) -> Permit {
    world.staff(Role::Squad, Action::Publish).await
}

fn share(share: u8) -> Rollout {
    Rollout {
        share,
        sites: Vec::new(),
    }
}

async fn set(
    world: &World,
    version: u32,
    to: VersionStage,
    rollout: &Rollout,
) -> Result<VersionView, JourneyError> {
    let permit = squad(world).await;
    world
        .journeys
        .set_stage(&permit, NAME, version, to, rollout, "Because")
        .await
}

async fn file(world: &World, words: &str, to: VersionStage, rollout: &Rollout) -> VersionView {
    let permit = squad(world).await;
    let text = source(words);
    let staged = world
        .journeys
        .stage_file(&permit, &text, to, rollout, "Because");
    staged.await.unwrap()
}

async fn stages(world: &World, journeys: &Journeys) -> Vec<(u32, VersionStage)> {
    let permit = world.staff(Role::Squad, Action::Observe).await;
    let versions = journeys.versions(&permit).await.unwrap();
    versions
        .iter()
        .map(|version| (version.version, version.stage))
        .collect()
}

/// The version on which a patient who is operated on now starts; none where nobody starts.
async fn starts(world: &World, patient: &str) -> Option<u32> {
    let before = world.views(patient).await.len();
    world.operate(patient).await;
    let views = world.views(patient).await;
    let newest = views.iter().max_by_key(|view| view.started_ms);
    newest
        .filter(|_| views.len() > before)
        .map(|view| view.version)
}

#[tokio::test]
async fn stages_follow_each_other_as_the_table_says() {
    use VersionStage::{Checked, Draft, Live, Retired, Staged};
    let world = World::with(Mail::Delivers, &source("One")).await;
    let permit = squad(&world).await;
    let mut table = Vec::new();
    for from in VersionStage::ALL {
        for to in VersionStage::ALL {
            // A journey of its own for each pair.
            let name = format!("{}-{}", from.name(), to.name());
            let text = source("One").replace("name: short", &format!("name: {name}"));
            let first = if from == Retired { Live } else { from };
            let rollout = share(10);
            let kept = world
                .journeys
                .stage_file(&permit, &text, first, &rollout, "x");
            assert_eq!(kept.await.unwrap().stage, first);
            let rollout = share(20);
            let set = |to| {
                world
                    .journeys
                    .set_stage(&permit, &name, 1, to, &rollout, "x")
            };
            if from == Retired {
                set(Retired).await.unwrap();
            }
            let came = set(to).await;
            if from.next().contains(&to) {
                let view = came.unwrap();
                assert_eq!((view.version, view.stage), (1, to));
                table.push((from, to));
            } else {
                let words = format!("is {}, and can't be {} from there", from.name(), to.name());
                let error = came.unwrap_err().to_string();
                assert!(error.contains(&words), "{error}");
            }
        }
    }
    assert_eq!(
        table,
        [
            (Draft, Checked),
            (Draft, Retired),
            (Checked, Staged),
            (Checked, Live),
            (Checked, Retired),
            (Staged, Checked),
            (Staged, Staged),
            (Staged, Live),
            (Staged, Retired),
            (Live, Retired),
        ]
    );
}

#[tokio::test]
async fn a_draft_may_have_errors_and_goes_no_further_with_them() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    let permit = squad(&world).await;
    let journeys = &world.journeys;
    let broken = source("Two").replace("next: end", "next: nowhere");
    let draft = journeys
        .keep_draft(&permit, &broken, "Not done yet")
        .await
        .unwrap();
    assert_eq!(
        (draft.version, draft.stage, draft.live),
        (2, VersionStage::Draft, false)
    );
    let seen = journeys.stage(&permit, NAME, 2).await.unwrap();
    assert!(seen.findings.iter().any(|finding| finding.error));
    assert_eq!(seen.next, [VersionStage::Retired]);
    let refused = set(&world, 2, VersionStage::Checked, &share(100)).await;
    assert!(matches!(refused, Err(JourneyError::Findings(_))));
    let refused = journeys
        .stage_file(&permit, &broken, VersionStage::Live, &share(100), "x")
        .await;
    assert!(matches!(refused, Err(JourneyError::Findings(_))));
    // Put right, it is the same draft; checked, it stays as it is, and what is kept then is another one.
    let draft = journeys
        .keep_draft(&permit, &source("Two"), "Done")
        .await
        .unwrap();
    assert_eq!(draft.version, 2);
    set(&world, 2, VersionStage::Checked, &share(100))
        .await
        .unwrap();
    let next = journeys
        .keep_draft(&permit, &source("Three"), "An idea")
        .await
        .unwrap();
    assert_eq!(next.version, 3);
    let seen = journeys.stage(&permit, NAME, 2).await.unwrap();
    assert_eq!(seen.source, source("Two"));
    let told: Vec<(VersionStage, &str, &str)> = seen
        .history
        .iter()
        .map(|step| (step.to, step.by.as_str(), step.why.as_str()))
        .collect();
    assert_eq!(
        told,
        [
            (VersionStage::Draft, "A Squad", "Not done yet"),
            (VersionStage::Draft, "A Squad", "Done"),
            (VersionStage::Checked, "A Squad", "Because"),
        ]
    );
    let refused = journeys.keep_draft(&permit, "steps: nonsense", "x").await;
    assert!(
        matches!(refused, Err(JourneyError::Findings(_))),
        "it has no name"
    );
    for why in ["", " ", "two\nlines", &"x".repeat(301)] {
        let refused = journeys.keep_draft(&permit, &source("Four"), why).await;
        assert!(matches!(refused, Err(JourneyError::Cannot(_))), "{why:?}");
    }
    // None of them starts anybody.
    let patient = world.patient().await;
    assert_eq!(starts(&world, &patient).await, Some(1));
}

#[tokio::test]
async fn a_share_of_the_new_patients_is_drawn_alike_by_every_server() {
    const PATIENTS: usize = 24;
    let world = World::with(Mail::Delivers, &source("One")).await;
    let other = Journeys::new(world.trust.clone());
    assert_eq!(stages(&world, &other).await, [(1, VersionStage::Live)]);
    file(&world, "Two", VersionStage::Staged, &share(30)).await;
    let mut first = BTreeMap::new();
    for _ in 0..PATIENTS {
        let patient = world.patient().await;
        let version = starts(&world, &patient).await.unwrap();
        first.insert(patient, version);
    }
    let drawn = first.values().filter(|version| **version == 2).count();
    assert!((2..18).contains(&drawn), "{drawn} of {PATIENTS}");
    world.pass(2 * DAY).await;
    // The other server hears of it from the feed, and draws the same.
    for (patient, version) in &first {
        let subject = json!({"reference": format!("Patient/{patient}")});
        let id = world
            .trust
            .vault()
            .ledger()
            .mint_id(TENANT, &ledger::Owner::Patient(patient.clone()));
        world
            .put(vec![json!({"resourceType": "Procedure", "id": id, "status": "completed", "subject": subject, "performedDateTime": world.instant()})])
            .await;
        other.drain(TENANT).await.unwrap();
        let views = world.views(patient).await;
        assert_eq!(views.len(), 2);
        assert!(views.iter().all(|view| view.version == *version));
    }
    assert_eq!(
        stages(&world, &other).await,
        [(2, VersionStage::Staged), (1, VersionStage::Live)]
    );
    // A greater share has all of the smaller one, and more.
    set(&world, 2, VersionStage::Staged, &share(70))
        .await
        .unwrap();
    world.pass(2 * DAY).await;
    let mut more = 0;
    for (patient, version) in &first {
        let now = starts(&world, patient).await.unwrap();
        assert!(now >= *version);
        more += usize::from(now > *version);
    }
    assert!(more > 0);
    // After a restart, too.
    let world = world.reopen().await;
    world.pass(2 * DAY).await;
    let (patient, _) = first.iter().find(|(_, version)| **version == 2).unwrap();
    assert_eq!(starts(&world, patient).await, Some(2));
}

#[tokio::test]
async fn neighbours_in_a_shard_are_drawn_each_by_themselves() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    file(&world, "Two", VersionStage::Staged, &share(50)).await;
    let mut drawn = Vec::new();
    for patient in world.neighbours(24).await {
        drawn.extend(starts(&world, &patient).await);
    }
    let second = drawn.iter().filter(|version| **version == 2).count();
    assert!((2..23).contains(&second), "{drawn:?}");
}

#[tokio::test]
async fn a_version_is_staged_for_a_site() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    let north = Rollout {
        share: 100,
        sites: vec!["north".to_owned()],
    };
    file(&world, "Two", VersionStage::Staged, &north).await;
    let organization = |id: &str| json!({"reference": format!("Organization/{id}")});
    for (keeps, stay, version) in [
        (None, None, 1),
        (Some("north"), None, 2),
        (Some("south"), None, 1),
        (Some("south"), Some("north"), 2),
        (Some("north"), Some("south"), 1),
    ] {
        let patient = world.patient().await;
        let ledger = world.trust.vault().ledger();
        let mint = || ledger.mint_id(TENANT, &ledger::Owner::Patient(patient.clone()));
        if let Some(keeps) = keeps {
            let mut person = world.read(fhir::ResourceType::Patient, &patient).await;
            person.set("managingOrganization", organization(keeps));
            world.put(vec![person.into_value()]).await;
        }
        let subject = json!({"reference": format!("Patient/{patient}")});
        let mut procedure = json!({"resourceType": "Procedure", "id": mint(), "status": "completed", "subject": subject, "performedDateTime": world.instant()});
        if let Some(stay) = stay {
            let id = mint();
            world
                .put(vec![json!({"resourceType": "Encounter", "id": id, "status": "in-progress", "subject": subject, "class": {"code": "IMP"}, "serviceProvider": organization(stay)})])
                .await;
            procedure["encounter"] = json!({"reference": format!("Encounter/{id}")});
        }
        world.put(vec![procedure]).await;
        world.drain().await;
        assert_eq!(
            world.view(&patient).await.version,
            version,
            "{keeps:?} {stay:?}"
        );
    }
    for sites in [vec!["no/id".to_owned()], vec!["x".to_owned(); 201]] {
        let refused = set(
            &world,
            2,
            VersionStage::Staged,
            &Rollout { share: 1, sites },
        )
        .await;
        assert!(
            refused
                .unwrap_err()
                .to_string()
                .contains("ids of organizations")
        );
    }
    for share_of in [0, 101] {
        let refused = set(&world, 2, VersionStage::Staged, &share(share_of)).await;
        assert!(refused.unwrap_err().to_string().contains("1 to 100"));
    }
}

#[tokio::test]
async fn who_is_on_a_version_goes_on_whatever_becomes_of_it() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    file(&world, "Two", VersionStage::Staged, &share(100)).await;
    let (early, late) = (world.patient().await, world.patient().await);
    assert_eq!(starts(&world, &early).await, Some(2));
    // Taken back: nobody else starts on it.
    set(&world, 2, VersionStage::Checked, &share(100))
        .await
        .unwrap();
    assert_eq!(starts(&world, &late).await, Some(1));
    let world = world.reopen().await;
    assert_eq!(world.view(&early).await.waiting[0].title, "Two");
    world.pass(DAY).await;
    assert_eq!(world.view(&early).await.ended.unwrap().1, "Completed");
    // Live, then retired: nobody starts at all, on the one before neither.
    set(&world, 2, VersionStage::Live, &share(100))
        .await
        .unwrap();
    let patient = world.patient().await;
    assert_eq!(starts(&world, &patient).await, Some(2));
    assert_eq!(
        stages(&world, &world.journeys).await,
        [(2, VersionStage::Live), (1, VersionStage::Retired)]
    );
    set(&world, 2, VersionStage::Retired, &share(100))
        .await
        .unwrap();
    let nobody = world.patient().await;
    assert_eq!(starts(&world, &nobody).await, None);
    assert_eq!(world.view(&patient).await.ended, None);
    world.pass(DAY).await;
    assert_eq!(world.view(&patient).await.ended.unwrap().1, "Completed");
    // A newer one starts patients again.
    world.publish(&source("Three")).await;
    assert_eq!(starts(&world, &nobody).await, Some(3));
}

#[tokio::test]
async fn one_at_a_time_is_staged_and_what_is_older_than_the_live_one_stays_behind() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    let permit = squad(&world).await;
    file(&world, "Two", VersionStage::Checked, &share(100)).await;
    file(&world, "Three", VersionStage::Staged, &share(5)).await;
    let refused = set(&world, 2, VersionStage::Staged, &share(5))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("version 3 of short is staged"),
        "{refused}"
    );
    let refused = world
        .journeys
        .publish(&permit, &source("Four"))
        .await
        .unwrap_err();
    assert!(
        refused.to_string().contains("version 3 of short is staged"),
        "{refused}"
    );
    // The same text published is that version, for everybody.
    let live = world
        .journeys
        .publish(&permit, &source("Three"))
        .await
        .unwrap();
    assert_eq!((live.version, live.live), (3, true));
    let again = world
        .journeys
        .publish(&permit, &source("Three"))
        .await
        .unwrap();
    assert_eq!(again.version, 3);
    let refused = set(&world, 2, VersionStage::Live, &share(5))
        .await
        .unwrap_err();
    assert!(
        refused
            .to_string()
            .contains("version 3 of short has gone live since"),
        "{refused}"
    );
    let observe = world.staff(Role::Squad, Action::Observe).await;
    let refused = world
        .journeys
        .set_stage(&observe, NAME, 3, VersionStage::Retired, &share(5), "x")
        .await;
    assert!(refused.is_err(), "that is for those who may publish");
}

/// What a program from before stages reads as a version, as it reads it.
#[derive(serde::Deserialize)]
struct Older {
    name: String,
    version: u32,
    source: String,
}

#[tokio::test]
async fn older_programs_start_nobody_on_a_staged_version_and_take_its_number_from_nobody() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    let permit = squad(&world).await;
    let read = async || {
        let vault = world.trust.vault();
        let found = vault.internals(&permit, kinds::JOURNEY_DEFINITION, &[], None, 100);
        let mut found: Vec<Older> = (found.await.unwrap().iter())
            .map(|document| serde_json::from_slice(&document.body).unwrap())
            .collect();
        found.sort_by_key(|older| older.version);
        found
    };
    file(&world, "Two", VersionStage::Checked, &share(100)).await;
    assert_eq!(
        read().await.len(),
        1,
        "they know nothing of what starts nobody"
    );
    file(&world, "Two", VersionStage::Staged, &share(5)).await;
    let known = read().await;
    assert_eq!(
        (known.len(), known[1].version, known[1].name.as_str()),
        (2, 2, NAME)
    );
    // They can't read it, so it is none of those on which they start patients, and whoever is on it waits.
    assert!(journey::Definition::compile(&known[1].source, 2).is_err());
    assert!(!journey::check(&known[1].source).is_empty());
    // What they would publish next has that number, which is taken.
    let id = world.trust.vault().ledger().derive_id(
        TENANT,
        &ledger::Owner::Tenant,
        "definition/short/2",
    );
    let taken = world
        .trust
        .vault()
        .internal(&permit, kinds::JOURNEY_DEFINITION, &id)
        .await;
    assert!(taken.unwrap().is_some());
    set(&world, 2, VersionStage::Live, &share(100))
        .await
        .unwrap();
    let known = read().await;
    assert_eq!(known[1].source, source("Two"));
}

/// Two servers move one version at the same time: each move that was done stands in its history.
#[tokio::test]
async fn moves_of_several_servers_do_not_overwrite_each_other() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    file(&world, "Two", VersionStage::Staged, &share(1)).await;
    let permit = squad(&world).await;
    let mut work = tokio::task::JoinSet::new();
    for percent in 10..22 {
        let (journeys, permit) = (Journeys::new(world.trust.clone()), permit.clone());
        work.spawn(async move {
            let (to, whom) = (VersionStage::Staged, share(percent));
            let why = percent.to_string();
            let set = journeys.set_stage(&permit, NAME, 2, to, &whom, &why);
            set.await.is_ok().then_some(why)
        });
    }
    let mut done: Vec<String> = work.join_all().await.into_iter().flatten().collect();
    done.sort();
    let fresh = Journeys::new(world.trust.clone());
    let seen = fresh.stage(&permit, NAME, 2).await.unwrap();
    let mut told: Vec<String> = seen.history.into_iter().map(|step| step.why).collect();
    told.retain(|why| why != "Because");
    told.sort();
    assert!(!done.is_empty());
    assert_eq!(told, done);
}

#[tokio::test]
async fn the_file_of_a_version_that_was_followed_becomes_a_new_one() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    for (words, version) in [("Two", 2), ("Three", 3), ("Two", 4)] {
        let view = file(&world, words, VersionStage::Live, &share(100)).await;
        assert_eq!((view.version, view.stage), (version, VersionStage::Live));
    }
}

/// A journey of a day with an e-mail of this subject.
fn mailing(words: &str, subject: &str) -> String {
    let send = format!(
        "steps:\n  note: {{title: Note, send: {{title: Note, words: Hello., channels: [email, portal], email: {{subject: {subject}, text: 'Read it at {{link}}'}}}}, next: rest}}\n"
    );
    source(words)
        .replacen("steps:\n", &send, 1)
        .replacen("start: rest", "start: note", 1)
}

/// A version as programs published it whose checker knew less.
async fn published_before(world: &World, version: u32, source: &str) {
    let squad = squad(world).await;
    let stored = json!({
        "name": NAME,
        "version": version,
        "source": source,
        "published_ms": 1,
        "published_by": "Sam",
    });
    let ledger = world.trust.vault().ledger();
    let name = format!("definition/{NAME}/{version}");
    let unit = trust::Unit {
        internals: vec![trust::Internal {
            kind: kinds::JOURNEY_DEFINITION,
            id: ledger.derive_id(TENANT, &ledger::Owner::Tenant, &name),
            owner: ledger::Owner::Tenant,
            expected: ledger::Expected::Absent,
            body: serde_json::to_vec(&stored).unwrap(),
            deleted: false,
            tokens: vec![("name".to_owned(), NAME.to_owned())],
        }],
        ..trust::Unit::default()
    };
    world.trust.vault().commit(&squad, unit).await.unwrap();
}

/// The way back to what was live is not closed by what the checker has learnt since.
#[tokio::test]
async fn a_text_that_was_live_once_can_be_so_again() {
    let world = World::with(Mail::Delivers, &source("One")).await;
    let old = mailing("Two", "Your dialysis");
    let squad_of = squad(&world).await;
    let refused = world.journeys.publish(&squad_of, &old).await;
    assert!(
        matches!(refused, Err(JourneyError::Findings(_))),
        "{refused:?}"
    );
    published_before(&world, 2, &old).await;
    let world = world.reopen().await;
    world.publish(&source("Three")).await;
    let squad_of = squad(&world).await;
    let back = world.journeys.publish(&squad_of, &old).await.unwrap();
    assert_eq!((back.version, back.live), (4, true));
    let found = back.findings.iter().find(|found| found.code == "J017");
    assert!(
        found.is_some_and(|found| !found.error),
        "{:?}",
        back.findings
    );
    // By its stages too, and a text that is not the same is another.
    world.publish(&source("Five")).await;
    let live = VersionStage::Live;
    let squad_of = squad(&world).await;
    let all = share(100);
    let staged = world
        .journeys
        .stage_file(&squad_of, &old, live, &all, "Back");
    assert_eq!(staged.await.unwrap().version, 6);
    let other = mailing("Six", "Your dialysis");
    let refused = world.journeys.publish(&squad_of, &other).await;
    assert!(
        matches!(refused, Err(JourneyError::Findings(_))),
        "{refused:?}"
    );
}

const RIDES: &str = r#"[[partner]]
name = "rides"
title = "County rides"
base = "https://rides.example.org"
contract = "baa"
until = "2099-12-31"
data = ["contact"]
purposes = ["TREAT"]
"#;

/// What the list of words says of a call stops a new text, and none that patients are on.
#[tokio::test]
async fn a_staged_version_is_not_stuck_by_words_of_the_list() {
    let world = World::among(Mail::Delivers, &source("One"), Some(RIDES)).await;
    let calling = |words: &str, why: &str| {
        let call = format!(
            "steps:\n  ride: {{title: Ride, call: {{partner: rides, path: /bookings, values: {{why: {{is: {why}}}}}, up_to: 1d}}, next: rest, failed: rest, timed_out: rest}}\n"
        );
        source(words)
            .replacen("steps:\n", &call, 1)
            .replacen("start: rest", "start: ride", 1)
    };
    let squad_of = squad(&world).await;
    let new = calling("Two", "to dialysis");
    let cleared = RIDES.replace("[\"contact\"]", "[\"contact\", \"health\"]");
    let live = VersionStage::Live;
    let staged = VersionStage::Staged;
    let (all, some) = (share(100), share(10));
    for to in [staged, live] {
        let refused = world
            .journeys
            .stage_file(&squad_of, &new, to, &all, "Because");
        let refused = refused.await;
        assert!(
            matches!(refused, Err(JourneyError::Findings(_))),
            "{refused:?}"
        );
    }
    // It is staged while they may be told, and patients are on it.
    let world = World::among(Mail::Delivers, &source("One"), Some(&cleared)).await;
    let squad_of = squad(&world).await;
    let first = world
        .journeys
        .stage_file(&squad_of, &new, staged, &some, "Because");
    assert_eq!(first.await.unwrap().version, 2);
    std::fs::write(world.folder.path().join("policies/partners.toml"), RIDES).unwrap();
    let world = world.reopen().await;
    set(&world, 2, staged, &share(50)).await.unwrap();
    let view = set(&world, 2, live, &share(100)).await.unwrap();
    assert_eq!(view.stage, live);
}

/// There is one thread that answers, and one for work beside it, which is taken. What is checked waits for it; who asks
/// for something else meanwhile is answered.
#[test]
fn a_draft_is_checked_beside_the_thread_that_answers() {
    let runtime = tokio::runtime::Builder::new_current_thread()
        .enable_all()
        .max_blocking_threads(1)
        .build()
        .unwrap();
    runtime.block_on(async {
        let world = World::with(Mail::Delivers, &source("Rest")).await;
        let permit = squad(&world).await;
        let draft = source("Sleep");
        let kept = world.journeys.keep_draft(&permit, &draft, "A try").await;
        let version = kept.unwrap().version;
        let (say, began) = tokio::sync::oneshot::channel();
        let (end, ended) = std::sync::mpsc::channel::<()>();
        let other = tokio::task::spawn_blocking(move || {
            say.send(()).unwrap();
            ended.recv().unwrap();
        });
        began.await.unwrap();
        let observe = world.staff(Role::Squad, Action::Observe).await;
        let checked = VersionStage::Checked;
        let all = Rollout::default();
        let journeys = &world.journeys;
        let work = async {
            // Opened, moved on, published: one after another, as they have one place.
            tokio::join!(
                journeys.stage(&observe, NAME, version),
                journeys.set_stage(&permit, NAME, version, checked, &all, "Because"),
                journeys.publish(&permit, "name: nothing\n"),
            )
        };
        let meanwhile = async {
            for _ in 0..100 {
                tokio::task::yield_now().await;
            }
            let opened = journeys.source(&observe, NAME, version).await.unwrap();
            assert_eq!(opened, draft, "a file is opened without being checked");
            let versions = journeys.versions(&observe).await.unwrap();
            let stage = versions.iter().find(|view| view.version == version);
            assert_eq!(stage.unwrap().stage, VersionStage::Draft, "it waits");
            end.send(()).unwrap();
        };
        let ((stage, set, published), ()) = tokio::join!(work, meanwhile);
        assert!(stage.unwrap().next.contains(&checked));
        assert_eq!(set.unwrap().stage, checked);
        assert!(matches!(published, Err(JourneyError::Findings(_))));
        other.await.unwrap();
    });
}
