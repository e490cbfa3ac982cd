//! Backups in a bucket of an object store that speaks S3. The protocol, its signatures and its retries
//! are `object_store`'s; here is what a place for backups asks for.

use std::fmt;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::str::FromStr;
use std::sync::{Arc, Mutex, PoisonError};
use std::time::Duration;

use bytes::Bytes;
use ledger::{BackupTarget, Clock, Entropy, LedgerError, SystemClock, SystemEntropy};
use object_store::aws::{AmazonS3, AmazonS3Builder, AmazonS3ConfigKey};
use object_store::path::Path as Key;
use object_store::{
    BackoffConfig, ClientOptions, Error, ObjectStore, ObjectStoreExt, PutMode, PutOptions,
    RetryConfig, UpdateVersion,
};
use reqwest::Url;
use tokio::runtime::Handle;
use tokio::time::Instant;

/// The object that who backs up to the place has made.
const LOCK: &str = "lock";
/// Who has said nothing for so long is gone: half as long as clocks may differ for a signature to hold.
const STALE: Duration = Duration::from_mins(15);
/// How often who has the place says so.
const SAY_EVERY: Duration = Duration::from_mins(2);
/// A file of credentials is a few lines.
const CREDENTIALS_BYTES: u64 = 16 << 10;

/// What is smaller says what belongs together (manifests, lists); before it is written, who has the
/// place makes sure that it still has.
const BULK_BYTES: usize = 1 << 20;

const LOST: &str = "another backup has taken the place over, because this one stood still for more than 15 minutes; \
                    what that one wrote stands";

const HELD: LedgerError = LedgerError::Invalid(
    "another backup to this place is running, or was killed less than 15 minutes ago; wait for it, and run the command \
     again",
);

/// `s3://BUCKET/PREFIX?endpoint=URL&region=REGION&credentials=FILE`; everything behind the bucket may be
/// left out.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct BucketUrl {
    bucket: String,
    /// How keys begin, without a slash at either end.
    prefix: String,
    /// Where the store is, if it isn't Amazon's.
    endpoint: Option<String>,
    region: Option<String>,
    /// A file in the form of `~/.aws/credentials`. Without one the environment says who it is.
    pub(crate) credentials: Option<PathBuf>,
}

impl FromStr for BucketUrl {
    type Err = String;
    fn from_str(text: &str) -> Result<Self, String> {
        let url = Url::parse(text).map_err(|error| format!("is no URL: {error}"))?;
        if !url.username().is_empty() || url.password().is_some() {
            return Err("credentials don't belong in a URL, which others can see: put them into a file or the \
                        environment"
                .to_owned());
        }
        let bucket = url.host_str().unwrap_or_default().to_owned();
        if url.scheme() != "s3"
            || bucket.is_empty()
            || url.port().is_some()
            || url.fragment().is_some()
        {
            return Err(
                "takes s3://BUCKET/PREFIX, with ?endpoint=URL, region=REGION and credentials=FILE"
                    .to_owned(),
            );
        }
        let prefix = url.path().trim_matches('/').to_owned();
        let is_plain = |byte: u8| byte.is_ascii_alphanumeric() || b"-_.!/".contains(&byte);
        if !prefix.bytes().all(is_plain)
            || prefix.split('/').any(|part| [".", ".."].contains(&part))
        {
            return Err("a prefix is of letters, digits, - _ . ! and /".to_owned());
        }
        let mut parsed = Self {
            bucket,
            prefix,
            endpoint: None,
            region: None,
            credentials: None,
        };
        for (name, value) in url.query_pairs() {
            let value = value.into_owned();
            match &*name {
                "endpoint" => parsed.endpoint = Some(checked_endpoint(value)?),
                "region" => parsed.region = Some(value),
                "credentials" => parsed.credentials = Some(value.into()),
                _ => {
                    return Err(format!(
                        "{name} is not known: there are endpoint, region and credentials"
                    ));
                }
            }
        }
        Ok(parsed)
    }
}

impl fmt::Display for BucketUrl {
    fn fmt(&self, formatter: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut url = format!("s3://{}/{}", self.bucket, self.prefix);
        let file = self
            .credentials
            .as_ref()
            .map(|file| file.display().to_string());
        let settings = [
            ("endpoint", &self.endpoint),
            ("region", &self.region),
            ("credentials", &file),
        ];
        if settings.iter().any(|(_, value)| value.is_some()) {
            let mut query = Url::parse(&url).map_err(|_| fmt::Error)?;
            for (name, value) in settings {
                if let Some(value) = value {
                    query.query_pairs_mut().append_pair(name, value);
                }
            }
            url = query.into();
        }
        formatter.write_str(&url)
    }
}

fn is_loopback(url: &Url) -> bool {
    matches!(
        url.host_str(),
        Some("localhost" | "127.0.0.1" | "::1" | "[::1]")
    )
}

/// An endpoint is spoken to in the clear on this machine only.
fn checked_endpoint(endpoint: String) -> Result<String, String> {
    let url = Url::parse(&endpoint).map_err(|error| format!("endpoint is no URL: {error}"))?;
    match url.scheme() {
        "https" => Ok(endpoint),
        "http" if is_loopback(&url) => Ok(endpoint),
        _ => Err("endpoint has to be https (http is for this machine only)".to_owned()),
    }
}

/// Who asks, as a file says it.
#[derive(Default)]
struct Credentials {
    key_id: String,
    secret: String,
    token: Option<String>,
}

impl Credentials {
    fn read(path: &Path) -> Result<Self, LedgerError> {
        let refused = |what: String| LedgerError::Storage(format!("{}: {what}", path.display()));
        let failed = |error: std::io::Error| refused(error.to_string());
        let file = std::fs::File::open(path).map_err(failed)?;
        #[cfg(unix)]
        {
            let metadata = file.metadata().map_err(failed)?;
            let mode = std::os::unix::fs::MetadataExt::mode(&metadata) & 0o777;
            if mode & 0o077 != 0 {
                return Err(refused(format!(
                    "has mode {mode:04o}, which lets others at it; set it to 0600"
                )));
            }
        }
        let mut text = String::new();
        let read = file.take(CREDENTIALS_BYTES).read_to_string(&mut text);
        read.map_err(failed)?;
        Self::parse(&text).map_err(refused)
    }

    /// The first section that there is, or those lines that are in none.
    fn parse(text: &str) -> Result<Self, String> {
        let mut found = Self::default();
        let mut sections = 0;
        for line in text.lines().map(str::trim) {
            if line.is_empty() || line.starts_with(['#', ';']) {
                continue;
            }
            if line.starts_with('[') {
                sections += 1;
                continue;
            }
            let Some((name, value)) = line.split_once('=').filter(|_| sections < 2) else {
                continue;
            };
            let value = value.trim().to_owned();
            match name.trim().to_ascii_lowercase().as_str() {
                "aws_access_key_id" => found.key_id = value,
                "aws_secret_access_key" => found.secret = value,
                "aws_session_token" => found.token = Some(value),
                _ => {}
            }
        }
        if found.key_id.is_empty() || found.secret.is_empty() {
            return Err("has no aws_access_key_id and aws_secret_access_key".to_owned());
        }
        Ok(found)
    }
}

/// How long to wait for the store, and how long to try again.
struct Patience {
    request: Duration,
    tries: Duration,
}

impl Patience {
    /// A file of 32 MiB in a minute is 4.5 Mbit/s. A signature holds for five minutes.
    const USUAL: Self = Self {
        request: Duration::from_mins(1),
        tries: Duration::from_secs(280),
    };
}

/// A place for backups in a bucket.
pub(crate) struct Bucket {
    name: String,
    store: Arc<AmazonS3>,
    prefix: String,
    clock: Arc<dyn Clock>,
    runtime: Handle,
    /// What this process last said of having the place, if it has.
    said: Arc<Mutex<Option<Said>>>,
}

/// That this process has the place: an object that begins with its token.
struct Said {
    at: Instant,
    token: Bytes,
    /// The object as it was put.
    version: UpdateVersion,
    /// How often it was put, so that no two are alike.
    times: u64,
}

impl Said {
    fn body(&self) -> Bytes {
        [&self.token[..], &self.times.to_be_bytes()].concat().into()
    }
}

impl Bucket {
    /// Asks nobody yet. To be called within a runtime, and used on threads that may block.
    ///
    /// # Errors
    /// `Storage` when the credentials' file can't be read or the settings don't make sense.
    pub(crate) fn open(url: &BucketUrl) -> Result<Self, LedgerError> {
        Self::with(url, &Patience::USUAL, Arc::new(SystemClock))
    }

    fn with(
        url: &BucketUrl,
        patience: &Patience,
        clock: Arc<dyn Clock>,
    ) -> Result<Self, LedgerError> {
        let mut builder = AmazonS3Builder::from_env().with_bucket_name(&url.bucket);
        if let Some(endpoint) = &url.endpoint {
            builder = builder.with_endpoint(endpoint);
        }
        if let Some(region) = &url.region {
            builder = builder.with_region(region);
        }
        if let Some(file) = &url.credentials {
            let Credentials {
                key_id,
                secret,
                token,
            } = Credentials::read(file)?;
            builder = builder
                .with_access_key_id(key_id)
                .with_secret_access_key(secret);
            builder = builder.with_token(token.unwrap_or_default());
        }
        // The environment may name an endpoint as well.
        let endpoint = builder.get_config_value(&AmazonS3ConfigKey::Endpoint);
        let refused = |what: String| LedgerError::Storage(format!("{url}: {what}"));
        let endpoint = endpoint
            .map(checked_endpoint)
            .transpose()
            .map_err(refused)?;
        let is_plain = endpoint.is_some_and(|endpoint| endpoint.starts_with("http:"));
        let options = ClientOptions::new()
            .with_timeout(patience.request)
            .with_connect_timeout(Duration::from_secs(10))
            .with_allow_http(is_plain);
        let retry = RetryConfig {
            backoff: BackoffConfig::default(),
            max_retries: 20,
            retry_timeout: patience.tries,
        };
        let store = builder
            .with_client_options(options)
            .with_retry(retry)
            .build();
        Ok(Self {
            name: url.to_string(),
            store: Arc::new(store.map_err(|error| refused(error.to_string()))?),
            prefix: url.prefix.clone(),
            clock,
            runtime: Handle::current(),
            said: Arc::default(),
        })
    }

    fn key(&self, name: &str) -> Key {
        Key::from(format!("{}/{name}", self.prefix))
    }

    fn failed(&self, what: &str, error: &Error) -> LedgerError {
        LedgerError::Storage(format!("{}: {what}: {error}", self.name))
    }

    /// Says that this process still has the place, if it has and has not said so for a while; `at_once`
    /// does not wait until it is due.
    fn say(&self, at_once: bool) -> Result<(), LedgerError> {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(last) = said.as_mut() else {
            return Ok(());
        };
        if at_once || last.at.elapsed() >= SAY_EVERY {
            last.times += 1;
            let key = self.key(LOCK);
            let renewed = self.runtime.block_on(renewed(&self.store, &key, last));
            match renewed.map_err(|error| self.failed(LOCK, &error))? {
                Some(version) => last.version = version,
                None => return Err(LedgerError::Storage(format!("{}: {LOST}", self.name))),
            }
            last.at = Instant::now();
        }
        Ok(())
    }

    /// Makes the lock's object, or takes one over that nobody has any more. `false` when the store can't
    /// make an object on a condition.
    async fn lock(&self, said: &mut Said) -> Result<bool, LedgerError> {
        let (key, body) = (self.key(LOCK), said.body());
        let put = |mode: PutMode| {
            let options = PutOptions::from(mode);
            self.store.put_opts(&key, body.clone().into(), options)
        };
        match put(PutMode::Create).await {
            Ok(put) => {
                said.version = put.into();
                return Ok(true);
            }
            Err(Error::AlreadyExists { .. } | Error::Precondition { .. }) => {}
            Err(Error::NotSupported { .. } | Error::NotImplemented { .. }) => return Ok(false),
            Err(error) => return Err(self.failed("can't be locked", &error)),
        }
        let there = match self.store.get(&key).await {
            Ok(there) => there,
            // Whoever had it is done.
            Err(Error::NotFound { .. }) => return Err(HELD),
            Err(error) => return Err(self.failed("can't be locked", &error)),
        };
        let (at, version) = (
            there.meta.last_modified.timestamp_millis(),
            UpdateVersion {
                e_tag: there.meta.e_tag.clone(),
                version: there.meta.version.clone(),
            },
        );
        let holder =
            (there.bytes().await).map_err(|error| self.failed("can't be locked", &error))?;
        if holder == body {
            // The answer to a try before had been lost.
            said.version = version;
            return Ok(true);
        }
        let now_ms = self.clock.now_ms();
        let silent_ms = now_ms.saturating_sub(u64::try_from(at).unwrap_or(0));
        if u128::from(silent_ms) < STALE.as_millis() {
            return Err(HELD);
        }
        match put(PutMode::Update(version)).await {
            Ok(put) => {
                said.version = put.into();
                tracing::warn!(
                    place = self.name,
                    "an earlier backup was killed; its lock was taken over"
                );
                Ok(true)
            }
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => Err(HELD),
            Err(error) => Err(self.failed("can't be locked", &error)),
        }
    }
}

/// Puts the lock's object anew, if it is still this process's; `None` when it is another's.
async fn renewed(store: &AmazonS3, key: &Key, said: &Said) -> Result<Option<UpdateVersion>, Error> {
    let mut version = said.version.clone();
    // Twice, because the answer to an attempt may be lost, and the object then is a newer one of ours.
    for _ in 0..2 {
        let options = PutOptions::from(PutMode::Update(version));
        match store.put_opts(key, said.body().into(), options).await {
            Ok(put) => return Ok(Some(put.into())),
            Err(Error::Precondition { .. } | Error::AlreadyExists { .. }) => {}
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        }
        let there = match store.get(key).await {
            Ok(there) => there,
            Err(Error::NotFound { .. }) => return Ok(None),
            Err(error) => return Err(error),
        };
        version = UpdateVersion {
            e_tag: there.meta.e_tag.clone(),
            version: there.meta.version.clone(),
        };
        let body = there.bytes().await?;
        if body == said.body() {
            return Ok(Some(version));
        }
        if !body.starts_with(&said.token) {
            return Ok(None);
        }
    }
    Ok(None)
}

/// Has the place until it is dropped.
struct Holding {
    store: Arc<AmazonS3>,
    key: Key,
    runtime: Handle,
    said: Arc<Mutex<Option<Said>>>,
}

impl Drop for Holding {
    fn drop(&mut self) {
        let mut said = self.said.lock().unwrap_or_else(PoisonError::into_inner);
        let Some(mut said) = said.take() else {
            return;
        };
        said.times += 1;
        // There is no deleting on a condition: just renewed, it is nobody's to take for 15 minutes.
        let giving = async {
            match renewed(&self.store, &self.key, &said).await? {
                Some(_) => self.store.delete(&self.key).await,
                None => Ok(()),
            }
        };
        if let Err(error) = self.runtime.block_on(giving) {
            tracing::warn!(%error, "the lock on a bucket stays for 15 minutes");
        }
    }
}

impl BackupTarget for Bucket {
    fn put(&self, name: &str, bytes: &[u8]) -> Result<(), LedgerError> {
        self.say(bytes.len() < BULK_BYTES)?;
        let key = self.key(name);
        let putting = (self.store).put(&key, Bytes::copy_from_slice(bytes).into());
        let outcome = self.runtime.block_on(putting);
        outcome.map(drop).map_err(|error| self.failed(name, &error))
    }

    fn get(&self, name: &str) -> Result<Option<Vec<u8>>, LedgerError> {
        let getting = async { self.store.get(&self.key(name)).await?.bytes().await };
        match self.runtime.block_on(getting) {
            Ok(bytes) => Ok(Some(bytes.into())),
            Err(Error::NotFound { .. }) => Ok(None),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn list(&self) -> Result<Vec<String>, LedgerError> {
        let prefix = Key::from(self.prefix.as_str());
        let listing = self.store.list_with_delimiter(Some(&prefix));
        let found = self.runtime.block_on(listing);
        let found = found.map_err(|error| self.failed("can't be listed", &error))?;
        let names = found.objects.iter();
        let names = names.filter_map(|object| object.location.filename());
        let mut names: Vec<String> = names
            .filter(|name| *name != LOCK)
            .map(str::to_owned)
            .collect();
        names.sort();
        Ok(names)
    }

    fn remove(&self, name: &str) -> Result<(), LedgerError> {
        self.say(true)?;
        match self.runtime.block_on(self.store.delete(&self.key(name))) {
            Ok(()) | Err(Error::NotFound { .. }) => Ok(()),
            Err(error) => Err(self.failed(name, &error)),
        }
    }

    fn hold(&self) -> Result<Box<dyn Send>, LedgerError> {
        let mut token = [0; 16];
        SystemEntropy.fill(&mut token);
        let mut said = Said {
            at: Instant::now(),
            token: Bytes::copy_from_slice(&token),
            version: UpdateVersion {
                e_tag: None,
                version: None,
            },
            times: 0,
        };
        if !self.runtime.block_on(self.lock(&mut said))? {
            return Ok(Box::new(()));
        }
        *self.said.lock().unwrap_or_else(PoisonError::into_inner) = Some(said);
        Ok(Box::new(Holding {
            store: Arc::clone(&self.store),
            key: self.key(LOCK),
            runtime: self.runtime.clone(),
            said: Arc::clone(&self.said),
        }))
    }

    fn describe(&self) -> String {
        self.name.clone()
    }
}

#[cfg(test)]
mod tests;
