//! A PostgreSQL server of a test's own, and PgBouncer in front of it.

use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::Duration;

use tempfile::TempDir;

const PORT: u16 = 5432;
const POOLER_PORT: u16 = 6432;
/// How often is looked whether a server has started. Looks are counted, and not the clock, which goes on while a
/// machine stands still.
const LOOKS: u32 = 6_000;
const BETWEEN_LOOKS: Duration = Duration::from_millis(10);

/// The newest installed PostgreSQL's programs.
fn programs() -> PathBuf {
    let versions = std::fs::read_dir("/usr/lib/postgresql");
    let newest = (versions.into_iter().flatten().flatten())
        .filter_map(|entry| entry.file_name().to_str()?.parse::<u32>().ok())
        .filter(|version| *version >= 15)
        .max();
    let version = newest.expect("PostgreSQL 15 or newer is missing: scripts/test installs it");
    PathBuf::from(format!("/usr/lib/postgresql/{version}/bin"))
}

/// Programs of a PostgreSQL that has Citus, if there is one: those in the folder that `CAIRN_TEST_CITUS`
/// names, or the installed ones.
fn programs_with_citus() -> Option<PathBuf> {
    let programs = std::env::var_os("CAIRN_TEST_CITUS").map_or_else(programs, PathBuf::from);
    let shared = Command::new(programs.join("pg_config"))
        .arg("--sharedir")
        .output();
    // Where there is no pg_config, Debian has it here.
    let shared = match shared {
        Ok(output) if output.status.success() => {
            PathBuf::from(String::from_utf8(output.stdout).unwrap().trim())
        }
        _ => {
            let version = programs.parent().and_then(Path::file_name)?;
            Path::new("/usr/share/postgresql").join(version)
        }
    };
    let there = shared.join("extension/citus.control").exists();
    there.then_some(programs)
}

fn is_root() -> bool {
    use std::os::unix::fs::MetadataExt;
    std::fs::metadata("/proc/self").is_ok_and(|me| me.uid() == 0)
}

/// A program that refuses to be root runs as `postgres`, and goes when the test goes.
fn command(program: &Path) -> Command {
    let mut command = Command::new("setpriv");
    if is_root() {
        command.args(["--reuid=postgres", "--regid=postgres", "--clear-groups"]);
    }
    command.args(["--pdeathsig", "KILL"]).arg(program);
    // Not that of the user who runs the tests, which others may not read.
    command.env("HOME", "/nonexistent");
    command
}

fn run(command: &mut Command) -> Output {
    let output = command.output().expect("the program starts");
    let text = String::from_utf8_lossy(&output.stderr).into_owned();
    assert!(output.status.success(), "{command:?}: {text}");
    output
}

fn signal(child: &Child, signal: &str) {
    run(Command::new("kill").args([signal, &child.id().to_string()]));
}

/// A folder that the server may write in; in memory where there is such a file system, since a crash of
/// the server loses nothing there and starting one is what the tests spend their time on.
fn folder() -> TempDir {
    let in_memory = tempfile::tempdir_in("/dev/shm");
    let folder = in_memory.or_else(|_| tempfile::tempdir()).unwrap();
    if is_root() {
        run(Command::new("chown").arg("postgres:").arg(folder.path()));
    }
    folder
}

fn copy(from: &Path, to: &Path) {
    run(Command::new("cp").arg("-a").arg(from).arg(to));
}

/// A folder with a new database `cairn` whose owner, a login that may make roles, has no more rights
/// than Cairn asks for. Made once, since making one takes a second.
fn template() -> PathBuf {
    let programs = programs();
    let version = (programs.parent().and_then(Path::file_name)).expect("a version");
    let kept = Path::new(env!("CARGO_TARGET_TMPDIR"));
    let template = kept.join(format!("postgres-{}-1", version.to_string_lossy()));
    if template.exists() {
        return template;
    }
    let folder = folder();
    let data = folder.path().join("data");
    run(command(&programs.join("initdb"))
        .args([
            "--no-sync",
            "--no-instructions",
            "--auth=trust",
            "--username=postgres",
        ])
        .args([
            "--wal-segsize=1",
            "--encoding=UTF8",
            "--locale=C",
            "--pgdata",
        ])
        .arg(&data));
    let mut cluster = Cluster::start(folder, &[]);
    // Of the four databases that there would be, two are enough: every file is copied for every test.
    for (database, sql) in [
        ("postgres", "CREATE ROLE cairn LOGIN CREATEROLE"),
        ("postgres", "ALTER DATABASE template0 IS_TEMPLATE false"),
        ("postgres", "DROP DATABASE template0"),
        ("template1", "ALTER DATABASE postgres RENAME TO cairn"),
        ("template1", "ALTER DATABASE cairn OWNER TO cairn"),
    ] {
        cluster.sql(database, "postgres", sql);
    }
    let child = cluster.child.take();
    stop(child, "-INT");
    let making = kept.join(format!("postgres-{}", std::process::id()));
    copy(&data, &making);
    // Somebody else may have been faster, and theirs is as good.
    let _ = std::fs::rename(&making, &template);
    let _ = std::fs::remove_dir_all(&making);
    template
}

fn stop(child: Option<Child>, how: &str) {
    if let Some(mut child) = child {
        signal(&child, how);
        child.wait().unwrap();
    }
}

/// A server, on a socket in its folder.
pub(crate) struct Cluster {
    folder: TempDir,
    child: Option<Child>,
    settings: Vec<String>,
    port: u16,
    programs: PathBuf,
}

impl Cluster {
    /// A new one, with a database `cairn` of the login `cairn`.
    pub(crate) fn new() -> Self {
        Self::with(&[])
    }

    /// A new one with settings `name=value`.
    pub(crate) fn with(settings: &[&str]) -> Self {
        let folder = folder();
        copy(&template(), &folder.path().join("data"));
        Self::start(folder, settings)
    }

    fn start(folder: TempDir, settings: &[&str]) -> Self {
        let settings = settings.iter().map(|&setting| setting.to_owned()).collect();
        let mut cluster = Self {
            folder,
            child: None,
            settings,
            port: PORT,
            programs: programs(),
        };
        cluster.run();
        cluster
    }

    /// A Citus cluster, a coordinator and its worker; `None` where Citus is not installed.
    pub(crate) fn with_citus() -> Option<(Self, Self)> {
        let programs = programs_with_citus()?;
        let one = || {
            let folder = folder();
            copy(&template(), &folder.path().join("data"));
            let mut server = Self {
                folder,
                child: None,
                settings: Vec::new(),
                port: free_port(),
                programs: programs.clone(),
            };
            server.set(&[
                "listen_addresses=127.0.0.1",
                "shared_preload_libraries=citus",
                "max_connections=200",
            ]);
            server.run();
            server.sql("cairn", "postgres", "CREATE EXTENSION citus");
            server
        };
        let (coordinator, worker) = (one(), one());
        for (what, port) in [
            ("citus_set_coordinator_host", coordinator.port),
            ("citus_add_node", worker.port),
        ] {
            let sql = format!("SELECT {what}('127.0.0.1', {port})");
            coordinator.sql("cairn", "postgres", &sql);
        }
        Some((coordinator, worker))
    }

    /// A streaming replica of a server, as it is now and from then on.
    pub(crate) fn replica_of(primary: &Self) -> Self {
        let folder = folder();
        run(command(&programs().join("pg_basebackup"))
            .args(["--no-sync", "--write-recovery-conf", "--checkpoint=fast"])
            .args(["--username=postgres", "--port", &primary.port.to_string()])
            .arg("--host")
            .arg(primary.folder())
            .arg("--pgdata")
            .arg(folder.path().join("data")));
        Self::start(folder, &[])
    }

    pub(crate) fn folder(&self) -> &Path {
        self.folder.path()
    }

    /// Starts it again.
    pub(crate) fn run(&mut self) {
        let log = std::fs::File::options()
            .create(true)
            .append(true)
            .open(self.folder().join("log"))
            .unwrap();
        let mut command = command(&self.programs.join("postgres"));
        command.arg("-D").arg(self.folder().join("data"));
        command.arg("-k").arg(self.folder());
        command.args(["-p", &self.port.to_string()]);
        // As few and as small as they come, but durable.
        for setting in ["fsync=on", "listen_addresses=", "shared_buffers=32MB"] {
            command.args(["-c", setting]);
        }
        for setting in &self.settings {
            command.args(["-c", setting]);
        }
        command
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log);
        self.wait_until_ready(&mut command);
    }

    /// Starts it, and again where it ends at once: the children of one that was killed have its memory for a moment.
    fn wait_until_ready(&mut self, command: &mut Command) {
        for look in 0.. {
            let child = self.child.as_mut();
            if child.is_none_or(|child| child.try_wait().is_ok_and(|ended| ended.is_some())) {
                self.child = Some(command.spawn().expect("setpriv (util-linux) starts"));
            }
            let ready = Command::new(programs().join("pg_isready"))
                .args(["-q", "-p", &self.port.to_string(), "-h"])
                .arg(self.folder())
                .status();
            if ready.is_ok_and(|status| status.success()) {
                return;
            }
            let log = || std::fs::read_to_string(self.folder().join("log")).unwrap_or_default();
            assert!(look < LOOKS, "PostgreSQL does not start: {}", log());
            std::thread::sleep(BETWEEN_LOOKS);
        }
    }

    /// More settings `name=value`, from the next start on.
    pub(crate) fn set(&mut self, settings: &[&str]) {
        let settings = settings.iter().map(|&setting| setting.to_owned());
        self.settings.extend(settings);
    }

    /// Listens on 127.0.0.1 too, from the next start on.
    pub(crate) fn listen(&mut self, port: u16) {
        self.port = port;
        self.set(&["listen_addresses=127.0.0.1"]);
    }

    /// Copies a file among the server's.
    pub(crate) fn bring(&self, file: &Path) {
        let to = self.folder().join("data").join(file.file_name().unwrap());
        run(Command::new("install")
            .args(["-m", "600"])
            .arg(file)
            .arg(&to));
        if is_root() {
            run(Command::new("chown").arg("postgres:").arg(to));
        }
    }

    /// Kills the server, as a crash would.
    pub(crate) fn kill(&mut self) {
        stop(self.child.take(), "-KILL");
    }

    /// Stops it, breaking off what is under way.
    pub(crate) fn stop(&mut self) {
        stop(self.child.take(), "-INT");
    }

    /// Where a login finds the database.
    pub(crate) fn url(&self, login: &str) -> String {
        url(self.folder(), self.port, login)
    }

    /// What a login is told; the error's text if it is refused.
    pub(crate) fn try_sql(&self, database: &str, login: &str, sql: &str) -> Result<String, String> {
        let output = Command::new(programs().join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                login,
                "-d",
                database,
                "-c",
                sql,
                "-h",
            ])
            .arg(self.folder())
            .output()
            .unwrap();
        if output.status.success() {
            Ok(String::from_utf8(output.stdout)
                .unwrap()
                .trim_end()
                .to_owned())
        } else {
            Err(String::from_utf8(output.stderr).unwrap())
        }
    }

    pub(crate) fn sql(&self, database: &str, login: &str, sql: &str) -> String {
        self.try_sql(database, login, sql).unwrap()
    }
}

/// A session of the administrator that stays open, with what it has begun.
pub(crate) struct Session(Child);

impl Cluster {
    /// Opens a session, tells it something, and waits until it has been done.
    pub(crate) fn session(&self, sql: &str) -> Session {
        let mut child = Command::new(programs().join("psql"))
            .args(["-X", "-A", "-t", "-q", "-v", "ON_ERROR_STOP=1"])
            .args([
                "-p",
                &self.port.to_string(),
                "-U",
                "postgres",
                "-d",
                "cairn",
            ])
            .arg("-h")
            .arg(self.folder())
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let input = child.stdin.as_mut().unwrap();
        writeln!(input, "{sql}\n\\echo done").unwrap();
        input.flush().unwrap();
        let output = child.stdout.as_mut().unwrap();
        let mut lines = BufReader::new(output).lines();
        assert!(
            lines.any(|line| line.unwrap() == "done"),
            "the session ended"
        );
        Session(child)
    }
}

impl Drop for Session {
    /// Ends it, and what it had begun is rolled back.
    fn drop(&mut self) {
        drop(self.0.stdin.take());
        self.0.wait().unwrap();
    }
}

impl Drop for Cluster {
    fn drop(&mut self) {
        stop(self.child.take(), "-QUIT");
    }
}

/// A port that nobody has right now.
fn free_port() -> u16 {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    listener.local_addr().unwrap().port()
}

fn url(folder: &Path, port: u16, login: &str) -> String {
    let folder = folder.display().to_string().replace('/', "%2F");
    format!("postgres://{login}@{folder}:{port}/cairn")
}

/// PgBouncer in transaction mode.
pub(crate) struct Pooler {
    folder: TempDir,
    child: Option<Child>,
}

impl Pooler {
    pub(crate) fn before(cluster: &Cluster) -> Self {
        let program = Path::new("/usr/sbin/pgbouncer");
        assert!(
            program.is_file(),
            "PgBouncer is missing: scripts/test installs it"
        );
        let folder = folder();
        let (here, server) = (folder.path().display(), cluster.folder().display());
        std::fs::write(folder.path().join("users"), "\"cairn\" \"\"\n").unwrap();
        let settings = format!(
            "[databases]\ncairn = host={server} port={PORT} dbname=cairn\n\
             [pgbouncer]\nlisten_addr =\nlisten_port = {POOLER_PORT}\nunix_socket_dir = {here}\n\
             auth_type = trust\nauth_file = {here}/users\npool_mode = transaction\n\
             default_pool_size = 12\nmax_client_conn = 100\nserver_login_retry = 1\n"
        );
        let path = folder.path().join("pgbouncer.ini");
        std::fs::write(&path, settings).unwrap();
        let log = std::fs::File::create(folder.path().join("log")).unwrap();
        let child = command(program)
            .arg(path)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(log)
            .spawn()
            .expect("setpriv (util-linux) starts");
        let socket = folder.path().join(format!(".s.PGSQL.{POOLER_PORT}"));
        let mut looks = 0;
        // The socket is there a moment before anybody listens on it.
        while std::os::unix::net::UnixStream::connect(&socket).is_err() {
            let log = std::fs::read_to_string(folder.path().join("log")).unwrap_or_default();
            assert!(looks < LOOKS, "PgBouncer does not start: {log}");
            looks += 1;
            std::thread::sleep(BETWEEN_LOOKS);
        }
        Self {
            folder,
            child: Some(child),
        }
    }

    pub(crate) fn url(&self, login: &str) -> String {
        url(self.folder.path(), POOLER_PORT, login)
    }
}

impl Drop for Pooler {
    fn drop(&mut self) {
        stop(self.child.take(), "-QUIT");
    }
}
