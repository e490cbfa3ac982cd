//! The real binary as a process: started, asked over HTTP, killed.

use std::fs::File;
use std::io;
use std::net::TcpListener;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::time::Duration;

use serde_json::Value;

/// How long a server may take to say that it is ready.
const READY_WITHIN: Duration = Duration::from_secs(30);
/// How long an answer may take, to the end of a large bundle.
const ANSWER_WITHIN: Duration = Duration::from_secs(300);

/// A client that waits for nothing without end: one whose connection is turned away just when it is made may
/// otherwise wait for another for ever.
pub(crate) fn client() -> reqwest::Client {
    client_that(reqwest::redirect::Policy::default())
}

/// The same, which follows answers that lead elsewhere so.
pub(crate) fn client_that(redirects: reqwest::redirect::Policy) -> reqwest::Client {
    let builder = reqwest::Client::builder().timeout(ANSWER_WITHIN);
    builder.redirect(redirects).build().expect("a client")
}

/// Where the `cairn` binary lies: beside the program that asks (or one folder up, for tests).
///
/// # Errors
/// When it has not been built.
pub fn binary() -> io::Result<PathBuf> {
    let own = std::env::current_exe()?;
    own.ancestors()
        .skip(1)
        .take(2)
        .map(|folder| folder.join("cairn"))
        .find(|path| path.is_file())
        .ok_or_else(|| {
            io::Error::new(
                io::ErrorKind::NotFound,
                "the cairn binary is not built: cargo build -p cairn with the same profile",
            )
        })
}

/// A port of 127.0.0.1 that is free now.
///
/// # Errors
/// When there is none.
pub fn free_port() -> io::Result<u16> {
    Ok(TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port())
}

/// Runs a `cairn` command to its end and gives its standard output.
///
/// # Errors
/// When it can't be started or ends with a failure; then with its standard error.
pub fn run(arguments: &[&str], input: &str) -> io::Result<String> {
    use std::io::Write;
    let mut child = Command::new(binary()?)
        .args(arguments)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()?;
    if let Some(mut stdin) = child.stdin.take() {
        stdin.write_all(input.as_bytes())?;
    }
    let output = child.wait_with_output()?;
    if !output.status.success() {
        return Err(io::Error::other(format!(
            "cairn {}: {}: {}",
            arguments.join(" "),
            output.status,
            String::from_utf8_lossy(&output.stderr)
        )));
    }
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

/// A running server.
pub struct ServerProcess {
    child: Child,
    /// `http://127.0.0.1:PORT`.
    pub base: String,
}

impl ServerProcess {
    /// Starts `cairn serve` on a data folder and waits until it is ready. Its output is added to
    /// the file `log`.
    ///
    /// # Errors
    /// When it can't be started, ends, or is not ready within 30 seconds.
    pub async fn start(data: &Path, log: &Path, more: &[&str]) -> io::Result<Self> {
        let data = data
            .to_str()
            .ok_or_else(|| io::Error::other("the folder's name is not UTF-8"))?;
        Self::start_with(log, &[&["--data", data], more].concat()).await
    }

    /// As [`ServerProcess::start`], wherever the store is that the arguments name.
    ///
    /// # Errors
    /// As [`ServerProcess::start`].
    pub async fn start_with(log: &Path, arguments: &[&str]) -> io::Result<Self> {
        let mut server = Self::spawn(log, arguments)?;
        server.ready(&client(), log).await?;
        Ok(server)
    }

    /// Starts the process and waits for nothing.
    ///
    /// # Errors
    /// When it can't be started.
    pub fn spawn(log: &Path, arguments: &[&str]) -> io::Result<Self> {
        let port = free_port()?;
        let out = File::options().create(true).append(true).open(log)?;
        let child = Command::new(binary()?)
            .arg("serve")
            .args(["--listen", &format!("127.0.0.1:{port}")])
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(out.try_clone()?)
            .stderr(out)
            .spawn()?;
        let base = format!("http://127.0.0.1:{port}");
        Ok(Self { child, base })
    }

    /// Waits until it is ready.
    ///
    /// # Errors
    /// When it ends, or is not ready within 30 seconds.
    pub async fn ready(&mut self, http: &reqwest::Client, log: &Path) -> io::Result<()> {
        let started = tokio::time::Instant::now();
        loop {
            if let Some(status) = self.ended()? {
                let log = log.display();
                let words = format!("the server ended with {status}; see {log}");
                return Err(io::Error::other(words));
            }
            if let Ok(answer) = http.get(format!("{}/health/ready", self.base)).send().await
                && answer.status().is_success()
            {
                return Ok(());
            }
            if started.elapsed() > READY_WITHIN {
                let _ = self.child.kill();
                return Err(io::Error::other("the server is not ready after 30 seconds"));
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
    }

    /// How it ended, if it has.
    ///
    /// # Errors
    /// When it can't be asked.
    pub fn ended(&mut self) -> io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// SIGKILL, at once.
    ///
    /// # Errors
    /// When it has ended already.
    pub fn kill(mut self) -> io::Result<()> {
        self.child.kill()?;
        self.child.wait()?;
        Ok(())
    }

    /// Sends it a signal, by name (`STOP`, `CONT`).
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn signal(&self, name: &str) -> io::Result<()> {
        Command::new("kill")
            .args([&format!("-{name}"), &self.child.id().to_string()])
            .status()
            .map(drop)
    }

    /// SIGTERM, and waits for the end; gives whether it was a clean one.
    ///
    /// # Errors
    /// When the signal can't be sent.
    pub fn terminate(mut self) -> io::Result<bool> {
        self.signal("TERM")?;
        Ok(self.child.wait()?.success())
    }

    /// The process's number.
    #[must_use]
    pub fn id(&self) -> u32 {
        self.child.id()
    }

    /// Resident memory and its peak, KiB.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn memory_kib(&self) -> io::Result<(u64, u64)> {
        process_memory_kib(self.id())
    }

    /// User and system time used, milliseconds.
    ///
    /// # Errors
    /// When the process is gone.
    pub fn cpu_ms(&self) -> io::Result<u64> {
        process_cpu_ms(self.id())
    }
}

/// Resident memory of a process and its peak, KiB.
///
/// # Errors
/// When the process is gone.
pub fn process_memory_kib(process: u32) -> io::Result<(u64, u64)> {
    let status = std::fs::read_to_string(format!("/proc/{process}/status"))?;
    let line = |name: &str| {
        status
            .lines()
            .find_map(|line| line.strip_prefix(name))
            .and_then(|rest| rest.trim().trim_end_matches(" kB").trim().parse().ok())
            .unwrap_or(0)
    };
    Ok((line("VmRSS:"), line("VmHWM:")))
}

/// User and system time that a process has used, milliseconds.
///
/// # Errors
/// When the process is gone.
pub fn process_cpu_ms(process: u32) -> io::Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{process}/stat"))?;
    // After the name in parentheses, user and system time are fields 12 and 13, in ticks of 10 ms.
    let fields: Vec<&str> = stat
        .rsplit(')')
        .next()
        .unwrap_or("")
        .split_whitespace()
        .collect();
    let ticks = |at: usize| {
        fields
            .get(at)
            .and_then(|text| text.parse::<u64>().ok())
            .unwrap_or(0)
    };
    Ok((ticks(11) + ticks(12)) * 10)
}

impl Drop for ServerProcess {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A FHIR client with a bearer token.
#[derive(Clone)]
pub struct Fhir {
    http: reqwest::Client,
    base: String,
    token: String,
}

impl Fhir {
    /// A client of `base` (`http://127.0.0.1:PORT`).
    #[must_use]
    pub fn new(base: &str, token: &str) -> Self {
        Self::over(client(), base, token)
    }

    /// The same over connections that there are.
    #[must_use]
    pub fn over(http: reqwest::Client, base: &str, token: &str) -> Self {
        Self {
            http,
            base: format!("{base}/fhir/r4"),
            token: token.trim().to_owned(),
        }
    }

    /// GET; gives status and body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn get(&self, path: &str) -> Result<(u16, Value), reqwest::Error> {
        Self::answer(
            self.http
                .get(format!("{}/{path}", self.base))
                .bearer_auth(&self.token),
        )
        .await
    }

    /// POST of a resource or bundle; gives status and body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn post(&self, path: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        Self::answer(self.with(self.http.post(format!("{}/{path}", self.base)), body)).await
    }

    /// PUT of a resource; gives status and body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn put(&self, path: &str, body: &Value) -> Result<(u16, Value), reqwest::Error> {
        Self::answer(self.with(self.http.put(format!("{}/{path}", self.base)), body)).await
    }

    /// Any request, with headers of its own; gives status, what of `Location` follows the address of the server, and
    /// body.
    ///
    /// # Errors
    /// The connection's.
    pub async fn send(
        &self,
        method: reqwest::Method,
        path: &str,
        headers: &[(&str, &str)],
        body: Option<&Value>,
    ) -> Result<(u16, String, Value), reqwest::Error> {
        let request = self.http.request(method, format!("{}/{path}", self.base));
        let mut request = match body {
            Some(body) => self.with(request, body),
            None => request.bearer_auth(&self.token),
        };
        for (name, value) in headers {
            request = request.header(*name, *value);
        }
        let answer = request.send().await?;
        let location = answer.headers().get("location");
        let location = location.and_then(|value| value.to_str().ok()).unwrap_or("");
        // Each server says its own address.
        let location = location.rsplit("/fhir/r4/").next().unwrap_or("").to_owned();
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        let body = serde_json::from_str(&text).unwrap_or(Value::Null);
        Ok((status, location, body))
    }

    fn with(&self, request: reqwest::RequestBuilder, body: &Value) -> reqwest::RequestBuilder {
        request
            .bearer_auth(&self.token)
            .header("content-type", "application/fhir+json")
            .body(body.to_string())
    }

    async fn answer(request: reqwest::RequestBuilder) -> Result<(u16, Value), reqwest::Error> {
        let answer = request.send().await?;
        let status = answer.status().as_u16();
        let text = answer.text().await?;
        Ok((status, serde_json::from_str(&text).unwrap_or(Value::Null)))
    }
}
