//! A bucket of `moto`, straight and behind a network that fails.

use std::io::{Read, Write};
use std::net::{Shutdown, TcpListener, TcpStream};
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use ledger::{ManualClock, Moment, RestoreOptions};

use super::*;
use crate::store::{self, RootKeySource, TENANT};

#[path = "../../tests/server/moto.rs"]
mod moto;
use moto::Moto;

const SECRET: &str = "canary-secret-0123";

/// What becomes of a connection.
#[derive(Debug, Clone, Copy)]
enum Fault {
    /// The store is overloaded.
    Unavailable,
    /// It ends in the middle of the request.
    CutOff,
    /// No answer comes.
    Silence,
}

/// A network before the store: its first connections fail as planned, and all of them while it is down.
struct Network {
    port: u16,
    down: Arc<AtomicBool>,
}

impl Network {
    fn before(port: u16, plan: &[Fault]) -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").unwrap();
        let network = Self {
            port: listener.local_addr().unwrap().port(),
            down: Arc::default(),
        };
        let (down, plan) = (Arc::clone(&network.down), plan.to_vec());
        std::thread::spawn(move || {
            for (number, client) in listener.incoming().flatten().enumerate() {
                let down = Arc::clone(&down);
                let fault = plan.get(number).copied();
                let fault = if down.load(Ordering::SeqCst) {
                    Some(Fault::Unavailable)
                } else {
                    fault
                };
                std::thread::spawn(move || carry(client, port, fault, &down));
            }
        });
        network
    }
}

fn carry(mut client: TcpStream, port: u16, fault: Option<Fault>, down: &AtomicBool) {
    let mut start = [0; 200];
    match fault {
        Some(Fault::Unavailable) => {
            let _ = client.read(&mut start);
            let _ = client.write_all(
                b"HTTP/1.1 503 Slow Down\r\ncontent-length: 0\r\nconnection: close\r\n\r\n",
            );
        }
        Some(Fault::CutOff) => {
            let length = client.read(&mut start).unwrap_or(0);
            if let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) {
                let _ = server.write_all(&start[..length]);
            }
        }
        Some(Fault::Silence) => while client.read(&mut start).is_ok_and(|length| length > 0) {},
        None => {
            let Ok(mut server) = TcpStream::connect(("127.0.0.1", port)) else {
                return;
            };
            let (mut from_server, mut to_client) =
                (server.try_clone().unwrap(), client.try_clone().unwrap());
            std::thread::spawn(move || {
                let _ = std::io::copy(&mut from_server, &mut to_client);
                let _ = to_client.shutdown(Shutdown::Both);
            });
            let mut bytes = vec![0; 64 << 10];
            while let Ok(length) = client.read(&mut bytes) {
                if length == 0 || down.load(Ordering::SeqCst) {
                    break;
                }
                if server.write_all(&bytes[..length]).is_err() {
                    break;
                }
            }
            let _ = server.shutdown(Shutdown::Both);
        }
    }
    let _ = client.shutdown(Shutdown::Both);
}

/// A place under a prefix, behind a port.
fn place(port: u16, prefix: &str, tries: Duration, clock: &ManualClock) -> Arc<Bucket> {
    // Read when the place is opened, and not needed any more then.
    let folder = tempfile::tempdir().unwrap();
    let file = folder.path().join("credentials");
    let text =
        format!("[default]\naws_access_key_id = someone\naws_secret_access_key = {SECRET}\n");
    std::fs::write(&file, text).unwrap();
    let mut private = std::fs::metadata(&file).unwrap().permissions();
    std::os::unix::fs::PermissionsExt::set_mode(&mut private, 0o600);
    std::fs::set_permissions(&file, private).unwrap();
    let url = format!(
        "s3://backups/{prefix}?endpoint=http://127.0.0.1:{port}&region=eu-central-1&credentials={}",
        file.display()
    );
    let patience = Patience {
        request: Duration::from_secs(5),
        tries,
    };
    let url: BucketUrl = url.parse().unwrap();
    Arc::new(Bucket::with(&url, &patience, Arc::new(clock.clone())).unwrap())
}

const LONG: Duration = Duration::from_secs(120);

/// On a thread that may block, as the ledger uses it.
async fn with<T: Send + 'static>(
    place: &Arc<Bucket>,
    work: impl FnOnce(&Bucket) -> T + Send + 'static,
) -> T {
    let place = Arc::clone(place);
    tokio::task::spawn_blocking(move || work(&place))
        .await
        .unwrap()
}

fn now() -> ManualClock {
    ManualClock::new(SystemClock.now_ms())
}

#[tokio::test(flavor = "multi_thread")]
async fn a_place_keeps_whole_files() {
    let moto = Moto::start().await;
    let near = place(moto.port, "house/one", LONG, &now());
    let far = place(moto.port, "house/one-more", LONG, &now());
    with(&far, |far| far.put("other", b"x").unwrap()).await;
    with(&near, |near| {
        let long: Vec<u8> = (0..3_000_000_u32)
            .map(|number| number.to_le_bytes()[1])
            .collect();
        assert_eq!(near.get("a.segment").unwrap(), None);
        near.put("a.segment", &long).unwrap();
        near.put("b", b"one").unwrap();
        near.put("b", b"two").unwrap();
        assert_eq!(near.get("a.segment").unwrap().unwrap(), long);
        assert_eq!(near.get("b").unwrap().unwrap(), b"two");
        assert_eq!(near.list().unwrap(), ["a.segment", "b"]);
        for _ in 0..2 {
            near.remove("b").unwrap();
        }
        assert_eq!(near.list().unwrap(), ["a.segment"]);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn one_backup_at_a_time_has_a_place() {
    let moto = Moto::start().await;
    let clock = now();
    let (one, other) = (
        place(moto.port, "", LONG, &clock),
        place(moto.port, "", LONG, &clock),
    );
    let held = with(&one, Bucket::hold).await.unwrap();
    let refused = with(&other, Bucket::hold).await.err();
    assert!(
        matches!(refused, Some(LedgerError::Invalid(why)) if why.contains("is running")),
        "{refused:?}"
    );
    with(&one, |one| assert_eq!(one.list().unwrap(), [""; 0])).await;
    with(&one, move |_| drop(held)).await;
    let held = with(&other, Bucket::hold).await.unwrap();
    // Killed, so that it is never given back; later somebody takes it over.
    std::mem::forget(held);
    assert!(with(&one, Bucket::hold).await.is_err());
    clock.advance(16 * 60 * 1000);
    let held = with(&one, Bucket::hold).await.unwrap();
    with(&one, move |_| drop(held)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn who_was_taken_over_writes_and_removes_nothing_any_more() {
    let moto = Moto::start().await;
    let clock = now();
    let (one, other) = (
        place(moto.port, "", LONG, &clock),
        place(moto.port, "", LONG, &clock),
    );
    let slept = with(&one, Bucket::hold).await.unwrap();
    with(&one, |one| one.put("first.json", b"1").unwrap()).await;
    clock.advance(16 * 60 * 1000);
    let held = with(&other, Bucket::hold).await.unwrap();
    with(&other, |other| other.put("second.json", b"2").unwrap()).await;
    let refused = with(&one, |one| {
        [one.put("late.json", b"1"), one.remove("second.json")]
    })
    .await;
    for outcome in refused {
        let words = outcome.unwrap_err().to_string();
        assert!(words.contains("taken the place over"), "{words}");
    }
    with(&one, move |_| drop(slept)).await;
    // The lock is still the other's, or it could write nothing more.
    with(&other, |other| {
        other.put("third.json", b"3").unwrap();
        assert_eq!(
            other.list().unwrap(),
            ["first.json", "second.json", "third.json"]
        );
    })
    .await;
    with(&other, move |_| drop(held)).await;
    let held = with(&one, Bucket::hold).await.unwrap();
    with(&one, move |_| drop(held)).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn faults_of_the_network_are_tried_again() {
    let moto = Moto::start().await;
    let plan = [
        Fault::Unavailable,
        Fault::CutOff,
        Fault::Silence,
        Fault::Unavailable,
    ];
    let network = Network::before(moto.port, &plan);
    let place = place(network.port, "p", LONG, &now());
    with(&place, |place| {
        place.put("a", &vec![7; 1_000_000]).unwrap();
        assert_eq!(place.get("a").unwrap().unwrap().len(), 1_000_000);
    })
    .await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_does_not_come_back_is_said_without_the_secret() {
    let moto = Moto::start().await;
    let clock = now();
    let network = Network::before(moto.port, &[]);
    let down = place(network.port, "p", Duration::from_secs(1), &clock);
    network.down.store(true, Ordering::SeqCst);
    let url = format!("s3://nowhere?endpoint=http://127.0.0.1:{}", moto.port);
    let url: BucketUrl = url.parse().unwrap();
    let missing = Arc::new(Bucket::with(&url, &Patience::USUAL, Arc::new(clock)).unwrap());
    for (place, named) in [(&down, "s3://backups/p"), (&missing, "s3://nowhere")] {
        let error = with(place, |place| place.put("a", b"x")).await.unwrap_err();
        let text = format!("{error} {error:?}");
        assert!(text.contains(named) && !text.contains(SECRET), "{text}");
    }
}

/// A place whose network goes down before one of the writes.
struct Failing {
    place: Arc<Bucket>,
    down: Arc<AtomicBool>,
    writes_left: AtomicUsize,
}

impl BackupTarget for Failing {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
        if self.writes_left.fetch_sub(1, Ordering::SeqCst) == 0 {
            self.down.store(true, Ordering::SeqCst);
        }
        self.place.put(name, bytes)
    }
    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        self.place.get(name)
    }
    fn list(&self) -> Result<Vec<String>, LedgerError> {
        self.place.list()
    }
    fn remove(&self, name: &str) -> Result<(), LedgerError> {
        self.place.remove(name)
    }
    fn hold(&self) -> Result<Box<dyn Send>, LedgerError> {
        self.place.hold()
    }
    fn describe(&self) -> String {
        self.place.describe()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failed_upload_leaves_the_backup_before_as_it_was() {
    let moto = Moto::start().await;
    let clock = now();
    let network = Network::before(moto.port, &[]);
    let house = place(moto.port, "house", LONG, &clock);
    let data = tempfile::tempdir().unwrap();
    let key = store::root_key_path(data.path());
    store::create_root_key(&key).unwrap();
    let wall = Arc::new(SystemClock);
    let at = store::in_folder(data.path());
    let ledger = store::open(at, &key, wall.clone(), 1 << 20).await.unwrap();
    let target = Arc::clone(&house) as Arc<dyn BackupTarget>;
    let first = ledger.backup(target, false, |_| {}).await.unwrap();
    let restored = async || {
        let into = tempfile::tempdir().unwrap();
        let location = store::in_folder(&into.path().join("new"));
        let source = RootKeySource::File(key.clone());
        let options = RestoreOptions {
            source: Arc::clone(&house) as Arc<dyn BackupTarget>,
            open: store::options(location, &source, wall.clone(), 1 << 20).unwrap(),
            to: Moment::Newest,
            chain: None,
            shred_lists: Vec::new(),
            release_outbox: false,
        };
        ledger::restore(options, |_| {}).await.unwrap().latest
    };
    for writes in [0, 1, 3] {
        ledger.create_tenant(TENANT).await.unwrap();
        network.down.store(false, Ordering::SeqCst);
        let failing = Failing {
            place: place(network.port, "house", Duration::from_secs(2), &clock),
            down: Arc::clone(&network.down),
            writes_left: AtomicUsize::new(writes),
        };
        let outcome = ledger.backup(Arc::new(failing), true, |_| {}).await;
        assert!(
            matches!(outcome, Err(LedgerError::Storage(_))),
            "{outcome:?}"
        );
        assert_eq!(restored().await, first.last, "{writes}");
        // Its lock could not be given back either.
        clock.advance(16 * 60 * 1000);
    }
    let target = Arc::clone(&house) as Arc<dyn BackupTarget>;
    let second = ledger.backup(target, false, |_| {}).await.unwrap();
    assert_eq!((second.chain, second.backup), (first.chain, 2));
    assert_eq!(restored().await, second.last);
    ledger.close().await.unwrap();
}

#[test]
fn urls_come_back_and_secrets_are_refused_in_them() {
    for text in [
        "s3://bucket/",
        "s3://bucket/a/b-c_d.e",
        "s3://bucket/a?endpoint=https%3A%2F%2Fstore.example%3A9000&region=eu&credentials=%2Fetc%2Fs3",
    ] {
        let url: BucketUrl = text.parse().unwrap();
        assert_eq!(url.to_string(), text);
        assert_eq!(url.to_string().parse::<BucketUrl>().unwrap(), url);
    }
    for (text, why) in [
        ("s3://key:secret@bucket/a", "credentials don't belong"),
        ("s3://bucket/a?secret=x", "secret is not known"),
        ("s3://bucket/a?endpoint=http://store.example", "https"),
        ("s3://bucket/a?endpoint=x", "no URL"),
        ("s3://bucket/a%20b", "a prefix is of"),
        ("s3:///a", "takes s3://"),
        ("s3://bucket:1/a", "takes s3://"),
    ] {
        let error = text.parse::<BucketUrl>().unwrap_err();
        assert!(error.contains(why), "{text}: {error}");
    }
}

#[test]
fn credentials_are_read_as_amazons_tools_write_them() {
    let text = "# mine\n[default]\naws_access_key_id=a\n AWS_SECRET_ACCESS_KEY = b=c \n\n[other]\naws_access_key_id = z\n";
    let read = Credentials::parse(text).unwrap();
    assert_eq!(
        (read.key_id.as_str(), read.secret.as_str(), read.token),
        ("a", "b=c", None)
    );
    assert!(Credentials::parse("[default]\naws_access_key_id = a\n").is_err());
}
