//! OpenTelemetry's protocol over HTTP (OTLP 1.x, protobuf): batches of log records, each answered.

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::time::Duration;

use opentelemetry_proto::tonic::collector::logs::v1::{
    ExportLogsServiceRequest, ExportLogsServiceResponse,
};
use opentelemetry_proto::tonic::common::v1::InstrumentationScope;
use opentelemetry_proto::tonic::logs::v1::{LogRecord, ResourceLogs, ScopeLogs};
use opentelemetry_proto::tonic::resource::v1::Resource;
use prost::Message as _;
use reqwest::header::{
    CONTENT_ENCODING, CONTENT_LENGTH, CONTENT_TYPE, HOST, HeaderMap, HeaderName, HeaderValue,
    RETRY_AFTER, TRANSFER_ENCODING, USER_AGENT,
};
use reqwest::{Certificate, Client, Identity, Response, Url, redirect};

use super::log_record::{pair, text};
use crate::fetching;

const PROTOBUF: &str = "application/x-protobuf";
/// How long a batch may take, from connecting to the end of the answer.
const PATIENCE: Duration = Duration::from_secs(30);
/// The longest that a collector can ask to be left alone for: a day of it would hide that it is broken.
const RETRY_AFTER_MAX: Duration = Duration::from_hours(1);
/// The most bytes of an answer, which has a number and a sentence.
const ANSWER_BYTES_MAX: usize = 64 << 10;
/// The most letters of a collector's words that are said again in the log.
const WORDS_MAX: usize = 200;
/// As many records in a row may be refused by themselves until one after them is taken. More than that are
/// the collector's fault, not theirs, and then it is told none until that is mended.
const SET_ASIDE_MAX: usize = 10;

/// Why a batch isn't known to have been taken.
#[derive(Debug, thiserror::Error)]
pub(super) enum Unreached {
    #[error("{0} can't be reached: {1}")]
    Connect(String, String),
    #[error("{0} answered {1}, and wants to be asked later")]
    Later(String, u16, Option<Duration>),
    #[error("{0} answered {1}, which is no answer to what was sent but to who sent it, or where")]
    Answered(String, u16),
    #[error("{0} answered {1}, with something that is no answer of OTLP")]
    Strange(String, u16),
    #[error("{0} refuses records with {1}, and takes none that would show that it is their fault")]
    Refuses(String, u16),
    #[error("audit.otlp_headers_file: {0}")]
    Headers(String),
}

impl Unreached {
    /// How long the collector wants to be left alone.
    pub(super) fn after(&self) -> Option<Duration> {
        match self {
            Self::Later(_, _, after) => *after,
            _ => None,
        }
    }
}

/// A record of a leaf.
pub(super) struct Line {
    pub(super) shard: ledger::Shard,
    pub(super) index: u64,
    pub(super) record: LogRecord,
}

/// What a collector said to a request.
enum Answer {
    Taken,
    /// All but so many, and why.
    Partly(i64, String),
    /// None of it: something in it is wrong, or it is too much.
    Refused(u16),
}

/// What was refused for its own sake, and isn't sent again.
#[derive(Debug)]
pub(super) enum Refusal {
    /// A record by itself: the leaf, and the answer's status.
    Alone(String, u16),
    /// So many of these leaves, and why. Which ones they are isn't said.
    Partly(u64, String, String),
}

impl Refusal {
    /// How many records it is of.
    pub(super) fn count(&self) -> u64 {
        match self {
            Self::Alone(..) => 1,
            Self::Partly(count, ..) => *count,
        }
    }

    pub(super) fn log(&self) {
        match self {
            Self::Alone(leaf, status) => {
                let words = "the audit's collector refuses this record; it is set aside";
                tracing::error!(status, leaves = leaf, "{words}");
            }
            Self::Partly(0, _, said) => {
                tracing::warn!(said, "the audit's collector has taken everything, and says");
            }
            Self::Partly(count, leaves, said) => {
                let words = "the audit's collector has refused some of these records";
                tracing::error!(count, leaves, said, "{words}");
            }
        }
    }
}

/// Whether a record was taken since the last one that was set aside. Only then is another set aside: whoever
/// refuses everything would be told nothing, and the position would pass all of it. It lasts longer than a
/// batch, as a batch may be one record; a server that starts knows of none.
#[derive(Debug, Default)]
pub(super) struct Credit(bool);

/// How far a batch got.
#[derive(Debug, Default)]
pub(super) struct Progress {
    /// So many of its records, from the first on, aren't sent again.
    pub(super) settled: usize,
    /// What was refused of these.
    pub(super) refusals: Vec<Refusal>,
    /// The records after these that were refused by themselves, while nothing shows whose fault it is.
    held: Vec<Refusal>,
}

impl Progress {
    /// What is held is refused for its own sake, and so many more records are done with.
    fn settle(&mut self, more: usize) {
        self.settled += self.held.len() + more;
        self.refusals.append(&mut self.held);
    }
}

/// Files beside the address.
#[derive(Debug, Default, Clone, Copy)]
pub struct OtlpFiles<'a> {
    /// PEM file of the authorities that sign the collector's certificate; those of the machine without one.
    pub authorities: Option<&'a Path>,
    /// Certificate, with its chain, and key that this server shows.
    pub identity: Option<(&'a Path, &'a Path)>,
    /// Headers of each request, `Name: value` in a line each. Read anew for each batch.
    pub headers: Option<&'a Path>,
}

/// Where the audit is told by OTLP.
pub struct OtlpCollector {
    url: Url,
    http: Client,
    headers: Option<PathBuf>,
    host: String,
}

impl std::fmt::Debug for OtlpCollector {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("OtlpCollector")
            .field("url", &self.url.as_str())
            .finish_non_exhaustive()
    }
}

impl OtlpCollector {
    /// A collector at a base URL: over TLS, or on this machine. `host` is what this server calls itself.
    ///
    /// # Errors
    /// In words, when something of it can't be used.
    pub fn new(base: &str, files: OtlpFiles<'_>, host: &str) -> Result<Self, String> {
        let url = endpoint(base)?;
        if let Some(path) = files.headers {
            let read = std::fs::read_to_string(path).map_err(|error| error.to_string());
            read.and_then(|text| parsed(&text))
                .map_err(|words| format!("{}: {words}", path.display()))?;
        }
        Ok(Self {
            url,
            http: client(files)?,
            headers: files.headers.map(Path::to_owned),
            host: host.to_owned(),
        })
    }

    /// Sends a batch, in its order, and keeps in `progress` how far it got, also when it ends in an error.
    pub(super) async fn send(
        &self,
        lines: &[Line],
        now_ms: u64,
        credit: &mut Credit,
        progress: &mut Progress,
    ) -> Result<(), Unreached> {
        let headers = self.headers().await?;
        // What is refused whole is sent in halves, in their order, until what is wrong stands by itself.
        let mut waiting = vec![lines];
        let mut refused_with = 0;
        while let Some(part) = waiting.pop() {
            match self.post(part, headers.clone(), now_ms).await? {
                Answer::Taken => {
                    credit.0 = true;
                    progress.settle(part.len());
                }
                Answer::Partly(count, said) => {
                    let count = u64::try_from(count).unwrap_or_default();
                    if count < part.len() as u64 {
                        credit.0 = true;
                    } else if !progress.held.is_empty() {
                        break;
                    }
                    // None of them may be sent again.
                    progress.settle(part.len());
                    let refusal = Refusal::Partly(count, spans(part), said);
                    progress.refusals.push(refusal);
                }
                Answer::Refused(_) if part.len() > 1 => {
                    let (first, second) = part.split_at(part.len() / 2);
                    waiting.extend([second, first]);
                }
                Answer::Refused(status) => {
                    refused_with = status;
                    // Nothing at all is what each collector takes that works.
                    let takes = self.post(&[], headers.clone(), now_ms).await?;
                    if matches!(takes, Answer::Refused(_)) {
                        return Err(Unreached::Refuses(self.place(), status));
                    }
                    progress.held.push(Refusal::Alone(spans(part), status));
                    if std::mem::take(&mut credit.0) {
                        progress.settle(0);
                    } else if progress.held.len() > SET_ASIDE_MAX {
                        break;
                    }
                }
            }
        }
        if progress.held.is_empty() {
            return Ok(());
        }
        Err(Unreached::Refuses(self.place(), refused_with))
    }

    fn place(&self) -> String {
        self.url.as_str().to_owned()
    }

    async fn headers(&self) -> Result<HeaderMap, Unreached> {
        let Some(path) = &self.headers else {
            return Ok(HeaderMap::new());
        };
        let read = tokio::fs::read_to_string(path).await;
        let read = read.map_err(|error| error.to_string());
        (read.and_then(|text| parsed(&text)))
            .map_err(|words| Unreached::Headers(format!("{}: {words}", path.display())))
    }

    fn request(&self, lines: &[Line]) -> ExportLogsServiceRequest {
        if lines.is_empty() {
            return ExportLogsServiceRequest::default();
        }
        let version = env!("CARGO_PKG_VERSION");
        let mut attributes = vec![
            pair("service.name", text("cairn")),
            pair("service.version", text(version)),
        ];
        if !self.host.is_empty() {
            attributes.push(pair("host.name", text(&self.host)));
        }
        let records = ScopeLogs {
            scope: Some(InstrumentationScope {
                name: "cairn.audit".to_owned(),
                version: version.to_owned(),
                ..InstrumentationScope::default()
            }),
            log_records: lines.iter().map(|line| line.record.clone()).collect(),
            ..ScopeLogs::default()
        };
        ExportLogsServiceRequest {
            resource_logs: vec![ResourceLogs {
                resource: Some(Resource {
                    attributes,
                    ..Resource::default()
                }),
                scope_logs: vec![records],
                ..ResourceLogs::default()
            }],
        }
    }

    async fn post(
        &self,
        lines: &[Line],
        headers: HeaderMap,
        now_ms: u64,
    ) -> Result<Answer, Unreached> {
        let request = self
            .http
            .post(self.url.clone())
            .headers(headers)
            .header(CONTENT_TYPE, PROTOBUF)
            .body(self.request(lines).encode_to_vec());
        let unreached = |error| Unreached::Connect(self.place(), reasons(error));
        let mut answer = request.send().await.map_err(unreached)?;
        let status = answer.status().as_u16();
        match status {
            200..=299 => {}
            400 | 413 | 422 => return Ok(Answer::Refused(status)),
            429 | 502 | 503 | 504 => {
                let after = answer.headers().get(RETRY_AFTER);
                let after = after.and_then(|value| wait(value.to_str().ok()?, now_ms));
                return Err(Unreached::Later(self.place(), status, after));
            }
            _ => return Err(Unreached::Answered(self.place(), status)),
        }
        // A page of something else on the way is no receipt.
        let strange = || Unreached::Strange(self.place(), status);
        let kind = answer.headers().get(CONTENT_TYPE).cloned();
        let body = bytes(&mut answer).await.map_err(unreached)?;
        let body = body.ok_or_else(strange)?;
        let is_ours = kind.is_some_and(|kind| kind.as_bytes().starts_with(PROTOBUF.as_bytes()));
        if !is_ours && !body.is_empty() {
            return Err(strange());
        }
        let said = ExportLogsServiceResponse::decode(body.as_slice()).map_err(|_| strange())?;
        let Some(partly) = said.partial_success else {
            return Ok(Answer::Taken);
        };
        let words = harmless(&partly.error_message);
        if partly.rejected_log_records == 0 && words.is_empty() {
            return Ok(Answer::Taken);
        }
        Ok(Answer::Partly(partly.rejected_log_records, words))
    }
}

/// Where logs are sent below a base URL.
fn endpoint(base: &str) -> Result<Url, String> {
    let text = format!("{}/v1/logs", base.trim_end_matches('/'));
    let url = Url::parse(&text).map_err(|_| format!("{base} is no URL"))?;
    if !fetching::is_safe(&url) || url.query().is_some() {
        return Err(
            "it is an address like https://collector.example.org:4318, or http:// with an address of this machine; \
             names and passwords belong into audit.otlp_headers_file"
                .to_owned(),
        );
    }
    Ok(url)
}

/// What asks the collector: it follows nobody elsewhere.
fn client(files: OtlpFiles<'_>) -> Result<Client, String> {
    let read =
        |path: &Path| std::fs::read(path).map_err(|error| format!("{}: {error}", path.display()));
    let mut builder = Client::builder()
        .http1_only()
        .redirect(redirect::Policy::none())
        .no_proxy()
        .timeout(PATIENCE);
    if let Some(path) = files.authorities {
        let wrong = |error: &dyn std::fmt::Display| format!("{}: {error}", path.display());
        let all = Certificate::from_pem_bundle(&read(path)?).map_err(|error| wrong(&error))?;
        if all.is_empty() {
            return Err(wrong(&"there is no certificate in it"));
        }
        builder = builder.tls_certs_only(all);
    }
    if let Some((chain, key)) = files.identity {
        let pem = [read(key)?, b"\n".to_vec(), read(chain)?].concat();
        let identity = Identity::from_pem(&pem);
        builder =
            builder.identity(identity.map_err(|error| format!("{}: {error}", key.display()))?);
    }
    let agent = concat!("cairn/", env!("CARGO_PKG_VERSION"));
    let builder = builder.user_agent(agent);
    builder.build().map_err(|error| error.to_string())
}

/// The headers in a file, which says nothing of them in an error: they are secret.
fn parsed(text: &str) -> Result<HeaderMap, String> {
    let mut headers = HeaderMap::new();
    let lines = text.lines().map(str::trim).enumerate();
    for (number, line) in lines.filter(|(_, line)| !line.is_empty() && !line.starts_with('#')) {
        let wrong = || format!("line {} is no header like `Name: value`", number + 1);
        let (name, value) = line.split_once(':').ok_or_else(wrong)?;
        let name = HeaderName::from_bytes(name.trim().as_bytes()).map_err(|_| wrong())?;
        let ours = [
            CONTENT_TYPE,
            CONTENT_LENGTH,
            CONTENT_ENCODING,
            TRANSFER_ENCODING,
            HOST,
            USER_AGENT,
        ];
        if ours.contains(&name) {
            return Err(format!("line {}: {name} is not to be set", number + 1));
        }
        let mut value = HeaderValue::from_str(value.trim()).map_err(|_| wrong())?;
        value.set_sensitive(true);
        headers.append(name, value);
    }
    Ok(headers)
}

/// The body of an answer; none if there is too much of it.
async fn bytes(answer: &mut Response) -> reqwest::Result<Option<Vec<u8>>> {
    let mut bytes = Vec::new();
    while let Some(chunk) = answer.chunk().await? {
        bytes.extend_from_slice(&chunk);
        if bytes.len() > ANSWER_BYTES_MAX {
            return Ok(None);
        }
    }
    Ok(Some(bytes))
}

/// Why a request came to nothing, with what lies below: that a certificate isn't trusted is said there.
fn reasons(error: reqwest::Error) -> String {
    let error = error.without_url();
    let mut words = error.to_string();
    let mut below = std::error::Error::source(&error);
    while let Some(reason) = below {
        // Writing into a text can't fail.
        let _ = write!(words, ": {reason}");
        below = reason.source();
    }
    words
}

/// How long `Retry-After` says to wait: seconds, or a moment.
fn wait(value: &str, now_ms: u64) -> Option<Duration> {
    let value = value.trim();
    let asked = match value.parse::<u64>() {
        Ok(seconds) => Duration::from_secs(seconds),
        Err(_) => {
            let moment = jiff::fmt::rfc2822::parse(value).ok()?.timestamp();
            let moment_ms = u64::try_from(moment.as_millisecond()).ok()?;
            Duration::from_millis(moment_ms.saturating_sub(now_ms))
        }
    };
    Some(asked.min(RETRY_AFTER_MAX))
}

/// A stranger's words for the log: no end of line, and an end.
fn harmless(words: &str) -> String {
    let letters = words.chars().filter(|letter| !letter.is_control());
    letters.take(WORDS_MAX).collect()
}

/// The leaves of records, as `3f/120-131 01/7`.
fn spans(lines: &[Line]) -> String {
    let mut spans: Vec<(ledger::Shard, u64, u64)> = Vec::new();
    for line in lines {
        match spans.iter_mut().find(|(shard, ..)| *shard == line.shard) {
            Some((_, first, last)) => {
                *first = line.index.min(*first);
                *last = line.index.max(*last);
            }
            None => spans.push((line.shard, line.index, line.index)),
        }
    }
    let words = spans.iter().map(|(shard, first, last)| {
        if first == last {
            format!("{shard}/{first}")
        } else {
            format!("{shard}/{first}-{last}")
        }
    });
    words.collect::<Vec<_>>().join(" ")
}

#[cfg(test)]
mod tests {
    use ledger::Shard;

    use super::*;

    #[test]
    fn what_is_no_collector_is_refused_in_words() {
        let folder = tempfile::tempdir().expect("a folder");
        let file = folder.path().join("x");
        std::fs::write(&file, "Authorization s3cret").expect("written");
        let (none, file) = (OtlpFiles::default(), Some(file.as_path()));
        let (here, nowhere) = ("http://127.0.0.1:4318", Path::new("/nowhere"));
        for (base, files, words) in [
            ("collector:4318", none, "https://"),
            ("nonsense", none, "is no URL"),
            ("http://collector.example:4318", none, "https://"),
            (
                "https://me:s3cret@collector.example",
                none,
                "audit.otlp_headers_file",
            ),
            ("https://collector.example/?key=1", none, "https://"),
            (
                here,
                OtlpFiles {
                    headers: file,
                    ..none
                },
                "line 1 is no header",
            ),
            (
                here,
                OtlpFiles {
                    headers: Some(nowhere),
                    ..none
                },
                "/nowhere",
            ),
            (
                here,
                OtlpFiles {
                    authorities: file,
                    ..none
                },
                "no certificate",
            ),
            (
                here,
                OtlpFiles {
                    authorities: Some(nowhere),
                    ..none
                },
                "/nowhere",
            ),
            (
                here,
                OtlpFiles {
                    identity: Some((nowhere, nowhere)),
                    ..none
                },
                "/nowhere",
            ),
        ] {
            let refused = OtlpCollector::new(base, files, "x").expect_err(base);
            assert!(refused.contains(words), "{base}: {refused}");
            assert!(!refused.contains("s3cret"), "{base}: {refused}");
        }
        let at = |base| OtlpCollector::new(base, none, "x").expect(base).place();
        assert_eq!(
            at("http://127.0.0.1:4318/"),
            "http://127.0.0.1:4318/v1/logs"
        );
        assert_eq!(
            at("https://c.example/otlp"),
            "https://c.example/otlp/v1/logs"
        );
    }

    #[test]
    fn headers_are_those_of_the_file() {
        let headers = parsed("# for the gateway\n\nAuthorization: Bearer a:b \r\nx-scope: audit\n");
        let headers = headers.expect("headers");
        assert_eq!(headers["authorization"], "Bearer a:b");
        assert!(headers["authorization"].is_sensitive());
        assert_eq!(headers["x-scope"], "audit");
        for wrong in [
            "Authorization",
            "a b: c",
            "x: \u{7}",
            "Content-Type: text/plain",
            "host: x",
        ] {
            assert!(parsed(wrong).is_err(), "{wrong}");
        }
    }

    #[test]
    fn who_wants_to_be_left_alone_is_for_an_hour_at_most() {
        let now_ms = 784_111_770_000;
        for (value, seconds) in [
            ("7", Some(7)),
            ("0", Some(0)),
            ("86400", Some(3600)),
            ("Sun, 06 Nov 1994 08:49:37 GMT", Some(7)),
            ("Sun, 06 Nov 1994 08:49:00 GMT", Some(0)),
            ("soon", None),
            ("-1", None),
        ] {
            let wait = wait(value, now_ms).map(|wait| wait.as_secs());
            assert_eq!(wait, seconds, "{value}");
        }
    }

    #[test]
    fn leaves_are_named_by_their_shards() {
        let line = |(shard, index)| Line {
            shard: Shard(shard),
            index,
            record: LogRecord::default(),
        };
        let lines = [(63, 120), (1, 7), (63, 121), (63, 122)].map(line);
        assert_eq!(spans(&lines), "3f/120-122 01/7");
        assert_eq!(harmless("a\r\nb\u{1b}[2J"), "ab[2J");
        assert_eq!(harmless(&"x".repeat(300)).len(), WORDS_MAX);
    }
}
