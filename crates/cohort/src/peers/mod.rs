//! Servers that nobody here wrote, for ours to talk to, and what they have noted.

use std::collections::{BTreeMap, BTreeSet};
use std::fs::{self, File};
use std::io::{self, BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};

/// The workspace's root.
#[must_use]
pub fn root() -> PathBuf {
    let own = Path::new(env!("CARGO_MANIFEST_DIR"));
    // This crate lies two folders down.
    own.ancestors().nth(2).unwrap_or(own).to_owned()
}

/// Where the tests' Python with `aiosmtpd` is.
#[must_use]
pub fn python() -> PathBuf {
    root().join("target/peers/python/bin/python")
}

/// A process that ends with its owner.
struct Peer {
    child: Child,
    port: u16,
    log: PathBuf,
}

impl Drop for Peer {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

impl Peer {
    /// Runs a script that prints its port, with its log and maybe a seed.
    fn start(
        python: &Path,
        (name, script): (&str, &str),
        folder: &Path,
        seed: Option<u64>,
    ) -> io::Result<Self> {
        let file = folder.join(format!("{name}.py"));
        fs::write(&file, script)?;
        let log = folder.join(format!("{name}.log"));
        let mut command = Command::new(python);
        command.arg(file).arg(&log);
        command.args(seed.map(|seed| seed.to_string()));
        let words = File::create(folder.join(format!("{name}.err")))?;
        command
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(words);
        let said = |error: &dyn std::fmt::Display| {
            let python = python.display();
            io::Error::other(format!("{name} of {python}: {error}"))
        };
        let mut child = command.spawn().map_err(|error| said(&error))?;
        let mut line = String::new();
        if let Some(out) = child.stdout.take() {
            BufReader::new(out).read_line(&mut line)?;
        }
        match line.trim().parse() {
            Ok(port) => Ok(Self { child, port, log }),
            Err(_) => {
                let _ = child.kill();
                let _ = child.wait();
                Err(said(&"it has told no port"))
            }
        }
    }

    fn lines(&self) -> Vec<String> {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        // A line that is being written is none yet.
        let whole = text.rfind('\n').map_or("", |end| &text[..end]);
        whole.lines().map(str::to_owned).collect()
    }
}

/// An `aiosmtpd` server that notes each message that it has taken.
pub struct Smtp(Peer);

impl Smtp {
    /// Starts it; `folder` takes its log.
    ///
    /// # Errors
    /// When Python or `aiosmtpd` is missing: `scripts/test` installs them.
    pub fn start(folder: &Path) -> io::Result<Self> {
        Self::start_with(&python(), folder, None)
    }

    /// With a Python of one's own; with a seed it is slow to say that it has taken something.
    ///
    /// # Errors
    /// As [`Smtp::start`].
    pub fn start_with(python: &Path, folder: &Path, seed: Option<u64>) -> io::Result<Self> {
        let script = ("smtp", include_str!("smtp.py"));
        Peer::start(python, script, folder, seed).map(Self)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// Where it notes what it took; beside it, with `.text` behind, the messages themselves.
    #[must_use]
    pub fn log(&self) -> &Path {
        &self.0.log
    }

    /// What was taken so far: recipient and Message-ID.
    #[must_use]
    pub fn taken(&self) -> Vec<(String, String)> {
        let lines = self.0.lines();
        let pairs = lines.iter().filter_map(|line| line.split_once(' '));
        pairs
            .map(|(to, id)| (to.to_owned(), id.to_owned()))
            .collect()
    }

    /// The Message-IDs of what each recipient was sent, and how many messages came in all.
    #[must_use]
    pub fn by_recipient(&self) -> (BTreeMap<String, BTreeSet<String>>, usize) {
        distinct(self.taken())
    }
}

/// Groups pairs by the first, and counts them.
fn distinct(pairs: Vec<(String, String)>) -> (BTreeMap<String, BTreeSet<String>>, usize) {
    let (mut by, count) = (BTreeMap::<String, BTreeSet<String>>::new(), pairs.len());
    for (one, id) in pairs {
        by.entry(one).or_default().insert(id);
    }
    (by, count)
}

/// A partner that breaks off, is slow and isn't there, by a seed.
pub struct Partner(Peer);

/// What a partner was asked.
#[derive(Debug, Default)]
pub struct Asked {
    /// Under which keys, by whom it was asked for.
    pub keys: BTreeMap<String, BTreeSet<String>>,
    /// How often.
    pub count: usize,
    /// How often it was asked again what it had answered whole: the answer was lost in a crash.
    pub again: usize,
}

impl Partner {
    /// Starts it; `folder` takes its log.
    ///
    /// # Errors
    /// When Python 3 is missing.
    pub fn start(folder: &Path, seed: u64) -> io::Result<Self> {
        let script = ("partner", include_str!("partner.py"));
        Peer::start(Path::new("python3"), script, folder, Some(seed)).map(Self)
    }

    /// Its port on 127.0.0.1.
    #[must_use]
    pub fn port(&self) -> u16 {
        self.0.port
    }

    /// What it was asked so far.
    #[must_use]
    pub fn asked(&self) -> Asked {
        let (mut pairs, mut answered, mut again) = (Vec::new(), BTreeSet::new(), 0);
        for line in self.0.lines() {
            let parts: Vec<&str> = line.split(' ').collect();
            if let [name, key, what] = parts[..] {
                match what {
                    "answered" => {
                        answered.insert(key.to_owned());
                    }
                    _ => {
                        again += usize::from(answered.contains(key));
                        pairs.push((name.to_owned(), key.to_owned()));
                    }
                }
            }
        }
        let (keys, count) = distinct(pairs);
        Asked { keys, count, again }
    }
}
