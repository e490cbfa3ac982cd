//! The demo in a real browser: a newcomer's walk through console and portal, with real clicks.
//!
//! Chromium is driven by `walk.mjs`; what every page must hold (no accessibility violations, nothing
//! from elsewhere, few bytes) is in `checks.mjs`. Screenshots go to `target/browser-screenshots/`. What the pages'
//! script does with its stream is in `live.mjs`, what the studio's does while somebody types in `typing.mjs`,
//! and the walk without a mouse is `keyboard.mjs`.

use std::fs::{self, File};
use std::io;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::Duration;

use cohort::server::{binary, free_port};

/// The times below are so many looks, this far apart: the clock goes on while a machine stands still.
const BETWEEN_LOOKS: Duration = Duration::from_millis(50);
/// How long the demo may take until it is ready.
const READY_WITHIN: Duration = Duration::from_secs(60);
/// How long the walk may take; it has bounds of its own that are shorter.
const WALK_WITHIN: Duration = Duration::from_secs(900);
/// How long the script's own test may take.
const SCRIPT_WITHIN: Duration = Duration::from_secs(120);
/// Seconds that a day takes: fast enough to see patients move, slow enough for a person to answer a
/// form in the two days that it is open.
const SECONDS_A_DAY: &str = "16";

/// The workspace's root.
fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .ancestors()
        .nth(2)
        .expect("crates/cohort lies two folders down")
        .to_owned()
}

/// A running demo, ended when dropped.
struct Demo {
    child: Child,
    base: String,
}

impl Demo {
    async fn start(data: &Path, log: &Path) -> io::Result<Self> {
        let port = free_port()?;
        let out = File::create(log)?;
        let child = Command::new(binary()?)
            .args(["demo", "--no-open", "--patients", "80", "--seed", "7"])
            .args(["--speed", SECONDS_A_DAY])
            .arg("--data")
            .arg(data)
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let mut demo = Self {
            child,
            base: format!("http://127.0.0.1:{port}"),
        };
        let looks = READY_WITHIN.as_millis() / BETWEEN_LOOKS.as_millis();
        for _ in 0..looks {
            if let Some(status) = demo.child.try_wait()? {
                return Err(io::Error::other(format!("the demo ended with {status}")));
            }
            let ready = reqwest::get(format!("{}/health/ready", demo.base)).await;
            if ready.is_ok_and(|answer| answer.status().is_success()) {
                return Ok(demo);
            }
            tokio::time::sleep(BETWEEN_LOOKS).await;
        }
        Err(io::Error::other(format!(
            "the demo is not ready after {} seconds",
            READY_WITHIN.as_secs()
        )))
    }

    /// SIGTERM; whether the end was a clean one.
    fn stop(mut self) -> io::Result<bool> {
        Command::new("kill")
            .args(["-TERM", &self.child.id().to_string()])
            .status()?;
        Ok(self.child.wait()?.success())
    }
}

impl Drop for Demo {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a process, at most so long; then it is killed.
async fn wait(child: &mut Child, within: Duration) -> io::Result<bool> {
    for _ in 0..within.as_millis() / BETWEEN_LOOKS.as_millis() {
        if let Some(status) = child.try_wait()? {
            return Ok(status.success());
        }
        tokio::time::sleep(BETWEEN_LOOKS).await;
    }
    child.kill()?;
    child.wait()?;
    Err(io::Error::other("the walk took too long"))
}

/// Where the browser's libraries lie; panics if they, or the browser, don't.
fn peers() -> PathBuf {
    let peers = root().join("target/peers/npm/node_modules");
    for (what, path) in [
        ("Chromium", PathBuf::from("/usr/bin/chromium")),
        ("playwright-core", peers.join("playwright-core")),
        ("@axe-core/playwright", peers.join("@axe-core/playwright")),
    ] {
        assert!(
            path.exists(),
            "{what} is missing at {}: scripts/test installs it",
            path.display()
        );
    }
    peers
}

/// Leads a browser by a file beside this one, against a server of its own.
async fn led_by(file: &str, assets: &str) {
    let space = tempfile::tempdir().expect("a folder");
    let mut pages = Command::new("node")
        .arg(root().join("crates/cohort/tests/browser").join(file))
        .arg(root().join("crates/web/assets").join(assets))
        .arg(peers())
        .arg(space.path())
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("node can't be started ({error}): scripts/test installs it")
        });
    let done = wait(&mut pages, SCRIPT_WITHIN).await;
    assert!(matches!(done, Ok(true)), "{done:?}");
}

/// What is on a page and may be seen no longer is taken off it.
#[tokio::test]
async fn the_script_takes_away_what_may_be_seen_no_longer() {
    led_by("live.mjs", "cairn.js").await;
}

/// While somebody types: after a rest, one at a time, the newest text, and the caret stays where it is.
#[tokio::test]
async fn the_studio_checks_what_is_typed_and_disturbs_nobody() {
    led_by("typing.mjs", "").await;
}

/// Leads a browser by a file beside this one through a demo of its own; `guides` is where pictures of the guides go, if
/// they are to be made anew.
async fn walked(file: &str, shots: &Path, guides: Option<PathBuf>) {
    let (root, peers) = (root(), peers());
    let _ = fs::remove_dir_all(shots);
    fs::create_dir_all(shots).expect("a folder for the screenshots");
    let space = tempfile::tempdir().expect("a folder");
    let log = space.path().join("demo.log");
    let words = || fs::read_to_string(&log).unwrap_or_default();

    let demo = match Demo::start(&space.path().join("data"), &log).await {
        Ok(demo) => demo,
        Err(error) => panic!("{error}\n{}", words()),
    };
    let mut walk = Command::new("node")
        .arg(root.join("crates/cohort/tests/browser").join(file))
        .args([demo.base.as_str(), SECONDS_A_DAY])
        .args([peers.as_path(), shots])
        .args(guides)
        .stdin(Stdio::null())
        .spawn()
        .unwrap_or_else(|error| {
            panic!("node can't be started ({error}): scripts/test installs it")
        });
    let walked = wait(&mut walk, WALK_WITHIN).await;
    assert!(
        matches!(walked, Ok(true)),
        "the walk failed ({walked:?}); what the demo said:\n{}",
        words()
    );
    let clean = demo.stop().expect("the demo can be stopped");
    assert!(clean, "the demo did not stop cleanly:\n{}", words());
    let said = words();
    assert!(
        !said.contains("ERROR") && !said.contains("WARN"),
        "the demo logged trouble:\n{said}"
    );
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_newcomer_walks_through_the_demo() {
    let root = root();
    // Pictures of the guides are made anew where somebody asks for it, and looked at before they are kept.
    #[expect(
        clippy::disallowed_methods,
        reason = "whoever runs the tests asks for it, no configuration"
    )]
    let guides = std::env::var_os("UPDATE_PICTURES").map(|_| root.join("docs/guides/pictures"));
    walked("walk.mjs", &root.join("target/browser-screenshots"), guides).await;
}

/// Studio, worklist, timeline and portal without a mouse: the focus can always be seen, and is never lost or held.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn everything_is_reached_by_keys_alone() {
    let shots = root().join("target/browser-screenshots-keys");
    walked("keyboard.mjs", &shots, None).await;
}
