//! The embedded store: the conformance suite, and what only a store on disk can show.
#![allow(clippy::unwrap_used, reason = "all of it is a test")]

#[path = "embedded/queues.rs"]
mod queues;
mod suite;
#[cfg(unix)]
#[path = "embedded/token.rs"]
mod token;

use std::path::Path;
use std::sync::Arc;

use ledger::{
    Dictionary, Expected, Kind, Ledger, LedgerError, Location, ManualClock, OpenOptions, Owner,
    RootKey, SystemEntropy,
};
use suite::{OBSERVATION, PATIENT, Restored, Store, TENANT, Wanted, commit_of, draft, of, ready};

struct Embedded {
    folder: tempfile::TempDir,
    clock: ManualClock,
    dictionary: Vec<Dictionary>,
}

impl Embedded {
    fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self {
            folder,
            clock: ManualClock::new(1_700_000_000_000),
            dictionary: Vec::new(),
        }
    }
}

impl Embedded {
    fn options(&self, root_key: RootKey) -> OpenOptions {
        OpenOptions {
            location: Location::Folder(self.folder.path().join("store")),
            root_key,
            clock: Arc::new(self.clock.clone()),
            entropy: Arc::new(SystemEntropy),
            dictionary: self.dictionary.clone(),
            cache_bytes: 16 << 20,
        }
    }
}

impl Store for Embedded {
    fn open_with(&self, root_key: RootKey) -> Result<Ledger, LedgerError> {
        Ledger::open(self.options(root_key))
    }
    fn clock(&self) -> &ManualClock {
        &self.clock
    }
    fn restores_are_slow(&self) -> bool {
        true
    }
    fn restore(&self, wanted: Wanted) -> Restored<'_> {
        Box::pin(async {
            let mut into = Self::new();
            into.clock = self.clock.clone();
            let options = into.options(RootKey::from_bytes([7; 32]));
            let report = ledger::restore(wanted.options(options), |_| {}).await?;
            Ok((Box::new(into) as Box<dyn Store>, report))
        })
    }
}

// Opening a store on disk takes a while, so fewer histories than in memory.
conformance!(Embedded::new(), 8);
backups!(Embedded::new());

#[tokio::test]
async fn the_store_tells_what_its_tables_take() {
    let store = Embedded::new();
    let ledger = ready(&store).await;
    suite::put(&ledger, PATIENT, "p", "p", Expected::Absent, "x", &[]).await;
    let parts = ledger.storage().unwrap();
    let bytes = |name: &str| {
        let part = parts.iter().find(|part| part.name == name);
        part.unwrap_or_else(|| panic!("no {name} in {parts:?}"))
            .bytes
    };
    // What was written just now is in the journal alone.
    assert_eq!((bytes("document"), bytes("posting")), (0, 0));
    assert!(bytes("journal") > 0 && bytes("journal") <= ledger.disk_bytes());
    ledger.close().await.unwrap();
    assert!(matches!(ledger.storage(), Err(LedgerError::Closed)));
}

#[tokio::test]
async fn a_store_is_open_once() {
    let store = Embedded::new();
    let ledger = ready(&store).await;
    let outcome = store.open_with(RootKey::from_bytes([7; 32]));
    assert!(
        matches!(&outcome, Err(LedgerError::Storage(what)) if what.contains("open in another process")),
        "{:?}",
        outcome.err()
    );
    // Dropping lets go of it as closing does.
    drop(ledger);
    store.open();
}

fn files_with(folder: &Path, needle: &[u8]) -> usize {
    let paths = std::fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().path());
    paths
        .map(|path| {
            if path.is_dir() {
                files_with(&path, needle)
            } else {
                usize::from(suite::has(&std::fs::read(&path).unwrap(), needle))
            }
        })
        .sum()
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[tokio::test]
async fn nothing_of_a_patient_is_in_the_folder() {
    let mut store = Embedded::new();
    store.dictionary = vec![Dictionary {
        kinds: vec![PATIENT],
        bytes: b"{\"resourceType\":\"Patient\",\"name\":[{\"family\":\"Dictionary-Canary\"}]}"
            .repeat(4),
    }];
    let ledger = ready(&store).await;
    let patient = "canary-patient-id-31415";
    // A body that zstd stores as it is would show too.
    let body = "Canary-Family-Name 1961-02-03";
    let drafts = vec![
        draft(
            &ledger,
            PATIENT,
            patient,
            of(patient),
            Expected::Absent,
            body,
            &["canary-code-27182"],
        ),
        draft(
            &ledger,
            OBSERVATION,
            "canary-observation-id",
            of(patient),
            Expected::Absent,
            body,
            &[],
        ),
        draft(
            &ledger,
            OBSERVATION,
            "canary-tenant-id-16180",
            Owner::Tenant,
            Expected::Absent,
            body,
            &[],
        ),
    ];
    let mut commit = commit_of(&ledger, drafts);
    commit.audit.as_mut().unwrap().body = body.as_bytes().to_vec();
    commit.outbox_add.push(ledger::OutboxDraft {
        key: ledger::OutboxKey {
            shard: ledger::Shard(1),
            due_ms: 1,
            id: [1; 16],
        },
        owner: of(patient),
        channel: 1,
        attempt: 0,
        body: body.as_bytes().to_vec(),
    });
    ledger.commit(commit).await.unwrap();
    let check = || {
        for canary in [
            "canary-patient-id",
            "Canary-Family",
            "canary-code",
            "canary-observation",
            "canary-tenant",
            "Dictionary-Canary",
            "1961-02-03",
        ] {
            assert_eq!(
                files_with(store.folder.path(), canary.as_bytes()),
                0,
                "{canary}"
            );
        }
        assert_eq!(files_with(store.folder.path(), &[7; 32]), 0, "the root key");
        // Finding nothing must not come from looking at nothing.
        assert!(files_with(store.folder.path(), b"cairn.ledger/") > 0);
    };
    check();
    ledger.close().await.unwrap();
    check();
    assert!(store.open().disk_bytes() > 0);
}

#[tokio::test]
async fn old_bodies_open_under_new_dictionaries() {
    let mut store = Embedded::new();
    let first = "first dictionary, long enough";
    let second = "second dictionary, as long";
    let rounds: [&[(&[Kind], &str)]; 6] = [
        &[],
        &[(&[], first)],
        &[(&[OBSERVATION], second)],
        &[(&[OBSERVATION], first), (&[], second)],
        &[(&[], first), (&[OBSERVATION, PATIENT], second)],
        &[],
    ];
    for (round, dictionaries) in rounds.iter().enumerate() {
        let dictionary = |(kinds, text): &(&[Kind], &str)| Dictionary {
            kinds: kinds.to_vec(),
            bytes: text.as_bytes().to_vec(),
        };
        store.dictionary = dictionaries.iter().map(dictionary).collect();
        let ledger = ready(&store).await;
        let drafts = [PATIENT, OBSERVATION].map(|kind| {
            let body = format!("{round}: {first}, {second}, {}", kind.0);
            let id = format!("o{round}");
            let owner = Owner::Tenant;
            draft(&ledger, kind, &id, owner, Expected::Absent, &body, &[])
        });
        ledger
            .commit(commit_of(&ledger, drafts.to_vec()))
            .await
            .unwrap();
        for earlier in 0..=round {
            for kind in [PATIENT, OBSERVATION] {
                let stored = ledger.get(TENANT, kind, &format!("o{earlier}")).await;
                let text = format!("{earlier}: {first}, {second}, {}", kind.0);
                assert_eq!(suite::text(&stored.unwrap().unwrap()), text);
            }
        }
        ledger.close().await.unwrap();
    }
    for wrong in [Vec::new(), vec![0; (1 << 20) + 1]] {
        store.dictionary = vec![Dictionary {
            kinds: Vec::new(),
            bytes: wrong,
        }];
        let outcome = store.open_with(RootKey::from_bytes([7; 32]));
        assert!(
            matches!(outcome, Err(LedgerError::Invalid(_))),
            "{:?}",
            outcome.err()
        );
    }
}

// Proves: 45 CFR 164.312(a)(2)(iv)
#[cfg(unix)]
#[test]
fn root_key_files_are_private_and_never_overwritten() {
    use std::os::unix::fs::PermissionsExt;
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("root.key");
    let refused = |path: &Path, why: &str| match RootKey::read(path) {
        Err(LedgerError::RootKey(text)) => assert!(text.contains(why), "{text}"),
        other => panic!("{:?}", other.err()),
    };
    refused(&path, "No such file");
    RootKey::create(&path, &SystemEntropy).unwrap();
    assert_eq!(
        std::fs::metadata(&path).unwrap().permissions().mode() & 0o777,
        0o600
    );
    let text = std::fs::read_to_string(&path).unwrap();
    assert_eq!(text.trim_end().len(), 64);
    RootKey::read(&path).unwrap();
    assert!(matches!(
        RootKey::create(&path, &SystemEntropy),
        Err(LedgerError::RootKey(_))
    ));
    assert_eq!(std::fs::read_to_string(&path).unwrap(), text);
    for (mode, good) in [
        (0o400, true),
        (0o640, false),
        (0o604, false),
        (0o644, false),
        (0o600, true),
    ] {
        std::fs::set_permissions(&path, std::fs::Permissions::from_mode(mode)).unwrap();
        if good {
            RootKey::read(&path).unwrap();
        } else {
            refused(&path, "mode");
        }
    }
    for text in [
        "",
        "abc",
        &"g".repeat(64),
        &"a".repeat(65),
        &format!("+{}", "a".repeat(63)),
    ] {
        std::fs::write(&path, text).unwrap();
        refused(&path, "64 hexadecimal digits");
    }
}

/// `tests/fixtures` has stores that were written by [`suite::earlier::write`] with the programs that
/// wrote store formats 1 (a row for each hash of an audit tree) and 2 (a row for each list of tokens),
/// and killed.
fn unpack(store: &mut Embedded, format: u32) {
    store.dictionary = vec![Dictionary {
        kinds: Vec::new(),
        bytes: b"{\"resourceType\":\"Observation\",\"status\":\"final\"}".repeat(4),
    }];
    let fixture = Path::new(env!("CARGO_MANIFEST_DIR"))
        .join(format!("tests/fixtures/format-{format}.tar.gz"));
    let unpacked = std::process::Command::new("tar")
        .arg("-xzf")
        .arg(&fixture)
        .arg("-C")
        .arg(store.folder.path())
        .status();
    assert!(
        unpacked
            .as_ref()
            .is_ok_and(std::process::ExitStatus::success),
        "unpacking {} with tar: {unpacked:?}",
        fixture.display()
    );
}

#[tokio::test]
async fn a_store_of_format_1_opens_and_goes_on() {
    opens_and_goes_on(1).await;
}

#[tokio::test]
async fn a_store_of_format_2_opens_and_goes_on() {
    opens_and_goes_on(2).await;
}

async fn opens_and_goes_on(format: u32) {
    let mut store = Embedded::new();
    unpack(&mut store, format);
    let ledger = store.open();
    suite::earlier::find(&ledger).await;
    suite::earlier::go_on(&ledger).await;
    ledger.close().await.unwrap();
    let ledger = store.open();
    suite::earlier::went_on(&ledger).await;
    // Audit records of then have no list of their tokens; a backup finds them all the same, and the
    // check misses nothing.
    let folder = tempfile::tempdir().unwrap();
    let target = Arc::new(ledger::FolderTarget::create(folder.path()).unwrap());
    ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    ledger.close().await.unwrap();
    let wanted = Wanted {
        source: target,
        to: ledger::Moment::Newest,
        shred_lists: Vec::new(),
        release_outbox: true,
    };
    let (restored, _) = store.restore(wanted).await.unwrap();
    let copy = restored.open();
    suite::earlier::went_on(&copy).await;
    let audits = |ledger: &Ledger| {
        ledger::Query::Token(ledger.token(TENANT, suite::AUDIT, "agent", "someone"))
    };
    let found = suite::found(&copy, &audits(&copy)).await;
    let ledger = store.open();
    assert_eq!(suite::found(&ledger, &audits(&ledger)).await, found);
    assert!(!found.is_empty());
    ledger.close().await.unwrap();
    let options = store.options(RootKey::from_bytes([7; 32]));
    let report = ledger::doctor(options, false, |_| {}).await.unwrap();
    assert!(
        report.is_sound() && report.findings.is_empty(),
        "{report:?}"
    );
    assert!(report.unreadable_documents > 0 && report.postings > 0 && report.keys > 0);
}

// Proves: 45 CFR 164.308(a)(7)(ii)(B)
#[tokio::test]
async fn restores_need_an_empty_folder_and_are_no_store_before_they_are_done() {
    let store = Embedded::new();
    let ledger = ready(&store).await;
    let draft = draft(&ledger, PATIENT, "p", of("p"), Expected::Absent, "x", &[]);
    let commit = commit_of(&ledger, vec![draft]);
    ledger.commit(commit).await.unwrap();
    let folder = tempfile::tempdir().unwrap();
    let target = Arc::new(ledger::FolderTarget::create(folder.path()).unwrap());
    ledger.backup(target.clone(), false, |_| {}).await.unwrap();
    ledger.close().await.unwrap();
    let wanted = Wanted {
        source: target,
        to: ledger::Moment::Newest,
        shred_lists: Vec::new(),
        release_outbox: false,
    };
    let root_key = RootKey::from_bytes([7; 32]);
    let over = wanted.clone().options(store.options(root_key.clone()));
    let outcome = ledger::restore(over, |_| {}).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Invalid(text)) if text.contains("empty")),
        "{outcome:?}"
    );
    let other = wanted.clone();
    let another_key = Embedded::new();
    let other = other.options(another_key.options(RootKey::from_bytes([8; 32])));
    let outcome = ledger::restore(other, |_| {}).await;
    assert!(
        matches!(outcome, Err(LedgerError::RootKey(_))),
        "{outcome:?}"
    );
    // Nor is anything left behind by who asks for a moment that there is not.
    let never = Wanted {
        to: ledger::Moment::Time(1),
        ..wanted.clone()
    };
    let outcome =
        ledger::restore(never.options(another_key.options(root_key.clone())), |_| {}).await;
    assert!(
        matches!(outcome, Err(LedgerError::NoSuchMoment(_))),
        "{outcome:?}"
    );
    let well = wanted.clone();
    let well = well.options(another_key.options(root_key.clone()));
    ledger::restore(well, |_| {}).await.unwrap();
    // A segment goes missing, so the restore stops in the middle.
    let names = std::fs::read_dir(folder.path()).unwrap();
    let segment = names
        .map(|entry| entry.unwrap().path())
        .find(|path| path.extension().is_some_and(|ending| ending == "segment"));
    std::fs::remove_file(segment.unwrap()).unwrap();
    let half = Embedded::new();
    let outcome = ledger::restore(wanted.options(half.options(root_key)), |_| {}).await;
    assert!(
        matches!(&outcome, Err(LedgerError::Damaged(text)) if text.contains("is missing")),
        "{outcome:?}"
    );
    let outcome = half.open_with(RootKey::from_bytes([7; 32]));
    assert!(
        matches!(&outcome.err(), Some(LedgerError::Storage(text)) if text.contains("not finished")),
    );
}

fn options(folder: &Path, root_key: RootKey) -> OpenOptions {
    OpenOptions {
        location: Location::Folder(folder.to_path_buf()),
        root_key,
        clock: Arc::new(ManualClock::new(1_700_000_000_000)),
        entropy: Arc::new(SystemEntropy),
        dictionary: Vec::new(),
        cache_bytes: 1 << 20,
    }
}

/// Rotates the token keys of the store in a folder until it is killed; run by the test below.
#[tokio::test(flavor = "multi_thread")]
#[ignore = "the other process of a test"]
#[allow(
    clippy::disallowed_methods,
    clippy::print_stdout,
    reason = "the other process of a test"
)]
async fn rotates_until_it_is_killed() {
    let Ok(folder) = std::env::var("CAIRN_TEST_ROTATE") else {
        return;
    };
    let ledger = Ledger::open(options(Path::new(&folder), RootKey::from_bytes([7; 32]))).unwrap();
    loop {
        println!("another");
        let told = |progress: ledger::TokenRotation| println!("batch {}", progress.documents);
        ledger.rotate_token_keys(TENANT, &told).await.unwrap();
    }
}

/// SIGKILL in the middle of a rotation, again and again: nothing is lost, and it goes on.
#[tokio::test(flavor = "multi_thread")]
#[allow(
    clippy::disallowed_methods,
    reason = "the program under test is this one"
)]
async fn a_killed_rotation_of_token_keys_goes_on() {
    use std::io::{BufRead, BufReader};
    let folder = tempfile::tempdir().unwrap();
    let data = folder.path().join("data");
    let key = || RootKey::from_bytes([7; 32]);
    let ledger = Ledger::open(options(&data, key())).unwrap();
    ledger.create_tenant(TENANT).await.unwrap();
    for number in 0..300 {
        let id = format!("document-{number}");
        let patient = format!("patient {}", number % 9);
        let codes = ["all", id.as_str()];
        suite::put(
            &ledger,
            suite::OBSERVATION,
            &id,
            &patient,
            Expected::Absent,
            "x",
            &codes,
        )
        .await;
    }
    let answers = async |ledger: &Ledger| {
        let mut answers = vec![suite::found(ledger, &suite::code(ledger, "all")).await];
        for number in (0..300).step_by(17) {
            let code = format!("document-{number}");
            answers.push(suite::found(ledger, &suite::code(ledger, &code)).await);
        }
        let audits = ledger::Query::Token(ledger.kind_token(TENANT, suite::AUDIT));
        answers.push(suite::found(ledger, &audits).await);
        answers
    };
    let expected = answers(&ledger).await;
    assert_eq!(expected[0].len(), 300);
    ledger.close().await.unwrap();
    let mut under_way = 0;
    for lines in [2, 3, 5, 4, 6, 1] {
        let mut child = std::process::Command::new(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "rotates_until_it_is_killed",
                "--ignored",
                "--nocapture",
            ])
            .env("CAIRN_TEST_ROTATE", &data)
            .stdout(std::process::Stdio::piped())
            .stderr(std::process::Stdio::null())
            .spawn()
            .unwrap();
        let said = BufReader::new(child.stdout.take().unwrap()).lines();
        let batches = said
            .map_while(Result::ok)
            .filter(|line| line.contains("batch"));
        assert_eq!(batches.take(lines).count(), lines);
        child.kill().unwrap();
        child.wait().unwrap();
        let ledger = Ledger::open(options(&data, key())).unwrap();
        assert_eq!(answers(&ledger).await, expected, "killed after {lines}");
        let went_on = ledger
            .continue_token_rotation(TENANT, &|_| {})
            .await
            .unwrap();
        under_way += usize::from(went_on.is_some());
        assert_eq!(
            answers(&ledger).await,
            expected,
            "killed after {lines}, gone on"
        );
        suite::assert_sound(&ledger).await;
        ledger.close().await.unwrap();
    }
    assert!(under_way > 0, "no rotation was killed in the middle");
}
