//! Floors of rule packs for the configuration, the inventory that they are held against, and the age of backups.

use std::path::Path;
use std::process::Stdio;
use std::sync::Arc;

use cairn::Configured;
use cairn::config::Settings;
use ledger::FolderTarget;
use reqwest::Method;
use serde_json::Value;
use tempfile::TempDir;
use trust::consent::Rules;

use crate::binary::serve;
use crate::house::{House, cairn, certificate, house_with, keyed_folder};

const PACK: &str = "us-hipaa-2025";

fn settings(pairs: &[(&str, &str)]) -> Settings {
    let owned = |(name, value): &(&str, &str)| ((*name).to_owned(), (*value).to_owned());
    let flags: Vec<_> = pairs.iter().map(owned).collect();
    Settings::load(None, std::iter::empty(), &flags).expect("a configuration")
}

/// What a pack refuses of a configuration, a line each.
fn refused(pack: &str, pairs: &[(&str, &str)]) -> Vec<String> {
    let mut all = vec![
        ("data", "/none/data"),
        ("root_key_file", "/none/keys/root.key"),
    ];
    all.retain(|(name, _)| pairs.iter().all(|(given, _)| given != name));
    all.extend(pairs);
    let configured = Configured::of(&settings(&all)).expect("what is configured");
    let rules = Rules::load(pack).expect("a pack");
    let below = configured.check(&rules).err().map(|refused| refused.below);
    below
        .into_iter()
        .flatten()
        .map(|one| one.to_string())
        .collect()
}

/// Settings and their values.
type Pairs = Vec<(&'static str, &'static str)>;

const PROVIDER: [(&str, &str); 4] = [
    ("identity_provider.h.issuer", "https://login.example"),
    ("identity_provider.h.name", "H"),
    ("identity_provider.h.client_id", "c"),
    ("identity_provider.h.client_secret_file", "/none"),
];

// Proves: proposed 45 CFR 164.312(a)(2)(iv), 164.312(b), 164.312(c), 164.312(f)(2)(ii), 164.312(g)
#[test]
fn each_setting_below_a_floor_is_refused_by_its_paragraph() {
    let provider = |amr: &'static str| {
        let mut all = PROVIDER.to_vec();
        all.push(("identity_provider.h.amr", amr));
        all
    };
    let proxied: &[(&'static str, &'static str)] = &[
        ("listen", "10.0.0.1:80"),
        ("behind_tls_proxy", "true"),
        ("public_url", "https://care.example"),
    ];
    let token: &[(&'static str, &'static str)] =
        &[("otlp.endpoint", "http://u:s3cret@traces.example:4318")];
    let cases: Vec<(Pairs, &str, &str, &str)> = vec![
        (
            provider("mfa pwd"),
            "identity_provider.h.amr",
            "`pwd`",
            "164.312(f)(2)(ii)",
        ),
        (
            proxied.to_vec(),
            "listen",
            "10.0.0.1:80 is reached in the clear",
            "164.312(b) and (g)",
        ),
        (
            vec![("public_url", "http://care.example")],
            "public_url",
            "begin it with https://",
            "(g)",
        ),
        (
            vec![(
                "store.url",
                "postgres://u:s3cret@db.example/x?sslmode=disable",
            )],
            "store.url",
            "db.example:5432 is reached in the clear; take sslmode=disable out",
            "(g)",
        ),
        (
            vec![
                ("store.url", "postgres://u@localhost/x"),
                (
                    "store.replicas",
                    "postgres://u@r.example:7/x?sslmode=disable",
                ),
            ],
            "store.replicas",
            "r.example:7",
            "(g)",
        ),
        (
            vec![
                ("smtp.host", "mail.example"),
                ("smtp.from", "a@b.example"),
                ("smtp.tls", "none"),
            ],
            "smtp.tls",
            "set it to starttls or implicit",
            "(g)",
        ),
        (
            token.to_vec(),
            "otlp.endpoint",
            "traces.example:4318",
            "(g)",
        ),
        (
            vec![("session.idle_s", "901")],
            "session.idle_s",
            "900 or less",
            "164.312(a)(2)(iv)",
        ),
        (
            vec![("session.absolute_s", "43201")],
            "session.absolute_s",
            "43200",
            "164.312(a)(2)(iv)",
        ),
        (
            vec![("session.step_up_s", "901")],
            "session.step_up_s",
            "900",
            "164.312(a)(2)(iv)",
        ),
        (
            vec![("root_key_file", "/none/data/keys/root.key")],
            "root_key_file",
            "move it to another disk",
            "164.312(b)",
        ),
    ];
    for (pairs, setting, words, under) in cases {
        let lines = refused(PACK, &pairs);
        let [line] = &lines[..] else {
            panic!("{setting}: {lines:?}");
        };
        assert!(line.starts_with(&format!("{setting}: ")), "{line}");
        assert!(line.contains(words) && line.contains(under), "{line}");
        assert!(
            line.contains("as proposed") && !line.contains("s3cret"),
            "{line}"
        );
        // The rule in force lets it, and so does England.
        for pack in ["us-hipaa", "england"] {
            assert_eq!(refused(pack, &pairs), Vec::<String>::new(), "{setting}");
        }
    }
    // What holds is let, at the figure too.
    let sound: &[Vec<(&str, &str)>] = &[
        vec![],
        provider("mfa otp hwk"),
        vec![("session.idle_s", "900"), ("session.step_up_s", "0")],
        vec![
            ("listen", "127.0.0.1:80"),
            ("behind_tls_proxy", "true"),
            ("public_url", "https://care.example"),
        ],
        vec![
            ("listen", "10.0.0.1:443"),
            ("tls.certificate_file", "c"),
            ("tls.private_key_file", "k"),
        ],
        vec![("store.url", "postgres://u@db.example/x")],
        vec![("store.url", "postgres://u@localhost/x")],
        vec![("otlp.endpoint", "http://127.0.0.1:4318")],
        vec![("root_key", "pkcs11:token=t"), ("root_key_file", "")],
    ];
    for pairs in sound {
        let mut pairs = pairs.clone();
        if pairs.iter().any(|(name, _)| *name == "root_key") {
            let configured = settings(&[("data", "/none/data"), ("root_key", "pkcs11:token=t")]);
            let configured = Configured::of(&configured).expect("what is configured");
            configured
                .check(&Rules::load(PACK).expect("a pack"))
                .expect("it holds");
            pairs.clear();
        }
        assert_eq!(refused(PACK, &pairs), Vec::<String>::new(), "{pairs:?}");
    }
    // Everything is told at once.
    let both = refused(
        PACK,
        &[("session.idle_s", "901"), ("session.absolute_s", "43201")],
    );
    assert_eq!(both.len(), 2);
}

// Proves: proposed 45 CFR 164.312(b)
#[test]
fn a_key_that_lies_with_the_store_is_found_by_where_it_really_lies() {
    let folder = tempfile::tempdir().expect("a folder");
    let (data, apart) = (folder.path().join("data"), folder.path().join("apart"));
    for path in [&data, &apart] {
        std::fs::create_dir(path).expect("made");
    }
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let lines = |data: &Path, key: &Path| {
        refused(
            PACK,
            &[("data", &text(data)), ("root_key_file", &text(key))],
        )
    };
    std::fs::write(apart.join("root.key"), "x").expect("written");
    assert_eq!(lines(&data, &apart.join("root.key")).len(), 0);
    // Another name for the same folder, and a way around.
    std::os::unix::fs::symlink(&data, folder.path().join("alias")).expect("linked");
    std::fs::write(data.join("root.key"), "x").expect("written");
    assert_eq!(lines(&data, &folder.path().join("alias/root.key")).len(), 1);
    assert_eq!(lines(&data, &apart.join("../data/root.key")).len(), 1);
    // A name in the folder for a file that lies elsewhere.
    std::os::unix::fs::symlink(apart.join("root.key"), data.join("link.key")).expect("linked");
    assert_eq!(lines(&data, &data.join("link.key")).len(), 0);
}

fn write(folder: &TempDir, name: &str, text: &str) -> String {
    let path = folder.path().join(name);
    std::fs::write(&path, text).expect("written");
    path.to_str().expect("UTF-8").to_owned()
}

// Proves: proposed 45 CFR 164.312(c)
#[test]
fn a_pack_built_on_another_makes_floors_stricter_and_never_lower() {
    let folder = tempfile::tempdir().expect("a folder");
    let session = |idle: u64, absolute: u64| {
        format!(
            "name = 'own'\nextends = '{PACK}'\n[security.sessions]\nunder = 'house rule 7'\nidle_s = {idle}\nabsolute_s = {absolute}\nstep_up_s = 900\n"
        )
    };
    let own = write(&folder, "own.toml", &session(300, 90_000));
    let lines = refused(
        &own,
        &[("session.idle_s", "301"), ("session.absolute_s", "43201")],
    );
    assert_eq!(lines.len(), 2, "{lines:?}");
    assert!(lines[0].contains("300 or less (house rule 7)"), "{lines:?}");
    assert!(lines[1].contains("43200 or less"), "{lines:?}");
    // The floors that it says nothing of are there as well, through a pack in between.
    let top = write(&folder, "top.toml", "name = 'top'\nextends = 'own.toml'\n");
    assert_eq!(refused(&top, &[("session.idle_s", "301")]).len(), 1);
    let clear = [
        ("session.idle_s", "300"),
        ("public_url", "http://care.example"),
    ];
    assert_eq!(refused(&top, &clear).len(), 1);
}

// Proves: proposed 45 CFR 164.312(c)
#[test]
fn a_server_below_a_floor_does_not_start_and_says_why() {
    let folder = keyed_folder();
    let data = folder.path();
    let mut command = cairn();
    command
        .args(["serve", "--listen", "127.0.0.1:0", "--data"])
        .arg(data);
    command.args([
        "--set",
        &format!("consent_rules={PACK}"),
        "--set",
        "session.idle_s=3600",
    ]);
    let output = command.stdin(Stdio::null()).output().expect("cairn runs");
    let words = String::from_utf8_lossy(&output.stderr).into_owned();
    assert_eq!(output.status.code(), Some(1), "{words}");
    for part in [
        "the rule pack us-hipaa-2025 refuses this configuration",
        "session.idle_s: is 3600, and 900 seconds are the most; set it to 900 or less (45 CFR 164.312(a)(2)(iv) as proposed)",
        "root_key_file: ",
    ] {
        assert!(words.contains(part), "{part}: {words}");
    }
    assert!(!data.join("ledger").exists(), "nothing was opened");

    // With the key apart, and all else as it comes, it does.
    let apart = tempfile::tempdir().expect("a folder");
    std::fs::rename(data.join("root.key"), apart.path().join("root.key")).expect("moved");
    let (mut child, base) = serve(data, |command| {
        command.arg("--root-key").arg(apart.path().join("root.key"));
        command.args(["--set", &format!("consent_rules={PACK}")]);
    });
    assert!(base.starts_with("http://127.0.0.1:"), "{base}");
    child.kill().expect("ended");
    child.wait().expect("ended");
}

fn on_this_machine() -> Configured {
    let pairs = [
        ("data", "/none/data"),
        ("root_key_file", "/none/keys/root.key"),
    ];
    Configured::of(&settings(&pairs)).expect("what is configured")
}

async fn strict(change: impl FnOnce(&mut cairn::ServerOptions)) -> House {
    house_with(|options| {
        options.consent_rules = PACK.to_owned();
        options.configured = Some(on_this_machine());
        change(options);
    })
    .await
}

async fn text(house: &House, path: &str) -> String {
    let answer = house
        .bare(Method::GET, path)
        .send()
        .await
        .expect("an answer");
    assert_eq!(answer.status(), 200, "{path}");
    answer.text().await.expect("text")
}

async fn age(house: &House) -> String {
    let metrics = text(house, "/metrics").await;
    let mut lines = metrics.lines();
    let line = lines.find(|line| line.starts_with("cairn_backup_age_seconds"));
    line.expect("the metric").to_owned()
}

// Proves: proposed 45 CFR 164.312(i)
#[tokio::test]
async fn a_backup_that_is_too_old_is_told_and_a_new_one_ends_that() {
    let house = strict(|_| {}).await;
    let late =
        "the newest backup is older than the 48 hours that the rule pack lets, or there is none";
    assert!(text(&house, "/health/ready").await.contains(late));
    assert!(age(&house).await.ends_with(" inf"), "{}", age(&house).await);
    let place = tempfile::tempdir().expect("a folder");
    let target = FolderTarget::create(&place.path().join("b")).expect("a place");
    let ledger = house.server.ledger();
    ledger
        .backup(Arc::new(target), false, |_| {})
        .await
        .expect("a backup");
    assert_eq!(text(&house, "/health/ready").await, "ready\n");
    house.clock.advance((48 * 3600 - 60) * 1000);
    assert_eq!(text(&house, "/health/ready").await, "ready\n");
    house.clock.advance(120_000);
    assert!(text(&house, "/health/ready").await.contains(late));
    house.end().await;
    // Without the pack nothing is said, and the metric is there all the same.
    let house = crate::house::house().await;
    assert_eq!(text(&house, "/health/ready").await, "ready\n");
    assert!(age(&house).await.ends_with(" inf"));
    house.end().await;
}

#[tokio::test]
async fn a_pack_with_floors_is_refused_where_nobody_says_what_is_configured() {
    let folder = tempfile::tempdir().expect("a folder");
    let house = crate::house::house().await;
    let files = certificate(folder.path());
    let mut options =
        cairn::ServerOptions::new(house.server.ledger().clone(), cairn::store::TENANT);
    options.tls = Some(files);
    options.consent_rules = PACK.to_owned();
    let error = cairn::Server::start(options)
        .await
        .err()
        .expect("a refusal");
    assert!(
        error.to_string().contains("was not told of its own"),
        "{error}"
    );
    // What a server is really started with is what counts.
    let mut options =
        cairn::ServerOptions::new(house.server.ledger().clone(), cairn::store::TENANT);
    options.consent_rules = PACK.to_owned();
    options.configured = Some(on_this_machine());
    options.session_idle_s = 1000;
    let error = cairn::Server::start(options)
        .await
        .err()
        .expect("a refusal");
    assert!(
        error.to_string().contains("session.idle_s: is 1000"),
        "{error}"
    );
    house.end().await;
}

// Proves: proposed 45 CFR 164.308(a)(1)(ii)(A), 164.308(a)(1)(ii)(B)
#[test]
fn the_inventory_tells_what_is_listened_on_kept_and_talked_to() {
    let folder = keyed_folder();
    let tenants = tempfile::tempdir().expect("a folder");
    write(
        &tenants,
        "north.toml",
        "key_origins = 'https://keys.north.example'\n",
    );
    let run = |more: &[&str]| {
        let mut command = cairn();
        command
            .args(["compliance", "inventory", "--data"])
            .arg(folder.path());
        command.args(more).args([
            "--set",
            "smtp.host=mail.example",
            "--set",
            "smtp.from=a@b.example",
        ]);
        command.args(["--set", "oauth.key_origins=https://keys.example"]);
        command.args(["--set", "audit.syslog=logs.example:6514"]);
        command.args(["--set", "audit.otlp=https://audit.example:4318"]);
        command.args(["--set", "otlp.endpoint=http://u:s3cret@traces.example:4318"]);
        command.args([
            "--set",
            &format!("tenants_folder={}", tenants.path().display()),
        ]);
        for (name, value) in PROVIDER {
            command.args(["--set", &format!("{name}={value}")]);
        }
        let output = command.stdin(Stdio::null()).output().expect("cairn runs");
        let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
        (
            output.status.code(),
            text(output.stdout),
            text(output.stderr),
        )
    };
    let (code, out, err) = run(&[]);
    assert_eq!(code, Some(0), "{err}");
    for (kind, way, place) in [
        (
            "in    listener",
            "this machine",
            "127.0.0.1:8080  [listen; health information]",
        ),
        (
            "kept  store",
            "this machine",
            "ledger  [data; sealed health information]",
        ),
        (
            "kept  root key",
            "this machine",
            "root.key  [root_key_file;",
        ),
        ("out   mail server", "TLS", "mail.example:587  [smtp.tls;"),
        (
            "out   identity provider",
            "TLS",
            "https://login.example/  [identity_provider.h.issuer;",
        ),
        (
            "out   keys of clients",
            "TLS",
            "https://keys.example/  [oauth.key_origins;",
        ),
        (
            "out   keys of clients",
            "TLS",
            "https://keys.north.example/  [key_origins of north.toml;",
        ),
        (
            "out   audit collector",
            "TLS",
            "logs.example:6514  [audit.syslog;",
        ),
        (
            "out   audit collector",
            "TLS",
            "https://audit.example:4318/  [audit.otlp;",
        ),
        (
            "out   receiver of traces",
            "IN THE CLEAR",
            "http://traces.example:4318/  [otlp.endpoint;",
        ),
    ] {
        let is = |line: &str| line.starts_with(kind) && line.contains(way) && line.contains(place);
        assert!(out.lines().any(is), "{kind} {place}: {out}");
    }
    assert!(
        out.contains("The rule pack us-hipaa has no floors."),
        "{out}"
    );
    assert!(!out.contains("s3cret"), "{out}");

    // What the pack refuses ends it with 1; what comes in by registration is told too.
    let made = cairn()
        .args(["client", "create", "--name", "Radiology", "--data"])
        .arg(folder.path())
        .output()
        .expect("cairn runs");
    assert!(made.status.success());
    let pack = format!("consent_rules={PACK}");
    let (code, out, err) = run(&["--clients", "--json", "--set", &pack]);
    assert_eq!(code, Some(1), "{err}");
    let all: Value = serde_json::from_str(&out).expect("JSON");
    assert_eq!(all["rulePack"], PACK);
    assert_eq!(all["below"].as_array().map(Vec::len), Some(2), "{all}");
    assert_eq!(all["clients"][0]["name"], "Radiology");
    assert_eq!(all["clients"][0]["state"], "active");
    let assets = all["inventory"]["assets"].as_array().expect("assets");
    let open = assets
        .iter()
        .filter(|asset| asset["on_the_way"] == "in-the-clear");
    assert_eq!(open.count(), 1);
}
