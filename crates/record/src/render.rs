//! Bundles as JSON, written straight to bytes.
use trust::consent::HighWaterMark;

use crate::{Answer, RecordError};

/// Writes a JSON string.
pub(crate) fn string(text: &str, out: &mut Vec<u8>) {
    // Writing a string to memory has no way to fail.
    let written = serde_json::to_writer(out, text);
    debug_assert!(written.is_ok());
}

fn member(name: &str, text: &str, out: &mut Vec<u8>) {
    if !matches!(out.last(), Some(b'{' | b'[')) {
        out.push(b',');
    }
    string(name, out);
    out.push(b':');
    string(text, out);
}

/// A Bundle in the making.
pub(crate) struct BundleWriter {
    out: Vec<u8>,
    entries: usize,
    mark: HighWaterMark,
}

/// How each of them begins.
const BEGINNING: &[u8] = br#"{"resourceType":"Bundle""#;

impl BundleWriter {
    /// Starts a bundle; links are (relation, url).
    pub(crate) fn new(kind: &str, total: Option<usize>, links: &[(&str, String)]) -> Self {
        let mut out = Vec::with_capacity(4096);
        out.extend_from_slice(BEGINNING);
        out.extend_from_slice(br#","type":"#);
        string(kind, &mut out);
        if let Some(total) = total {
            out.extend_from_slice(format!(r#","total":{total}"#).as_bytes());
        }
        if !links.is_empty() {
            out.extend_from_slice(br#","link":["#);
            for (relation, url) in links {
                if out.last() != Some(&b'[') {
                    out.push(b',');
                }
                out.push(b'{');
                member("relation", relation, &mut out);
                member("url", url, &mut out);
                out.push(b'}');
            }
            out.push(b']');
        }
        Self {
            out,
            entries: 0,
            mark: HighWaterMark::default(),
        }
    }
    fn open(&mut self, full_url: Option<&str>, resource: Option<&[u8]>) {
        self.out.extend_from_slice(if self.entries == 0 {
            br#","entry":[{"#
        } else {
            b",{"
        });
        self.entries += 1;
        if let Some(full_url) = full_url {
            member("fullUrl", full_url, &mut self.out);
        }
        if let Some(resource) = resource {
            self.mark.weigh(resource);
            self.name("resource");
            self.out.extend_from_slice(resource);
        }
    }
    fn name(&mut self, name: &str) {
        if self.out.last() != Some(&b'{') {
            self.out.push(b',');
        }
        string(name, &mut self.out);
        self.out.push(b':');
    }
    /// An entry of a searchset; mode is `match`, `include` or `outcome`.
    pub(crate) fn found(&mut self, full_url: Option<&str>, resource: &[u8], mode: &str) {
        self.open(full_url, Some(resource));
        self.name("search");
        self.out.push(b'{');
        member("mode", mode, &mut self.out);
        self.out.extend_from_slice(b"}}");
    }
    /// An entry of a history.
    pub(crate) fn past(
        &mut self,
        full_url: &str,
        resource: Option<&[u8]>,
        method: &str,
        url: &str,
        response: &Response<'_>,
    ) {
        self.open(Some(full_url), resource);
        self.name("request");
        self.out.push(b'{');
        member("method", method, &mut self.out);
        member("url", url, &mut self.out);
        self.out.push(b'}');
        self.response(response, None);
        self.out.push(b'}');
    }
    fn response(&mut self, response: &Response<'_>, outcome: Option<&[u8]>) {
        self.name("response");
        self.out.push(b'{');
        member("status", status_line(response.status), &mut self.out);
        if let Some(location) = response.location {
            member("location", location, &mut self.out);
        }
        if let Some(version) = response.version {
            member("etag", &format!("W/\"{version}\""), &mut self.out);
        }
        if let Some(unix_ms) = response.last_modified_ms {
            member("lastModified", &fhir::date::instant(unix_ms), &mut self.out);
        }
        if let Some(outcome) = outcome {
            self.name("outcome");
            self.out.extend_from_slice(outcome);
        }
        self.out.push(b'}');
    }
    /// An entry of a batch-response or transaction-response. The body is a resource, or an outcome.
    pub(crate) fn answered(
        &mut self,
        full_url: Option<&str>,
        answer: &Answer,
        body_is_outcome: bool,
    ) {
        let body = (!answer.body.is_empty()).then_some(answer.body.as_slice());
        let (resource, outcome) = if body_is_outcome {
            (None, body)
        } else {
            (body, None)
        };
        self.open(full_url, resource);
        let response = Response {
            status: answer.status,
            location: answer.location.as_deref(),
            version: answer.version,
            last_modified_ms: answer.last_modified_ms,
        };
        self.response(&response, outcome);
        self.out.push(b'}');
    }
    /// An entry of a batch-response that failed.
    pub(crate) fn failed(&mut self, error: &RecordError) {
        self.open(None, None);
        let response = Response {
            status: error.status,
            location: None,
            version: None,
            last_modified_ms: None,
        };
        self.response(&response, Some(&error.to_json()));
        self.out.push(b'}');
    }
    pub(crate) fn finish(mut self) -> Vec<u8> {
        if let Some(label) = self.mark.label() {
            let meta = format!(r#","meta":{{"security":[{label}]}}"#);
            let place = BEGINNING.len()..BEGINNING.len();
            self.out.splice(place, meta.into_bytes());
        }
        self.out
            .extend_from_slice(if self.entries == 0 { b"}" } else { b"]}" });
        self.out
    }
}

/// What `Bundle.entry.response` says.
pub(crate) struct Response<'a> {
    pub(crate) status: u16,
    pub(crate) location: Option<&'a str>,
    pub(crate) version: Option<u32>,
    pub(crate) last_modified_ms: Option<u64>,
}

/// `Bundle.entry.response.status`: the code, with HTTP's words (RFC 9110) where they are common.
fn status_line(status: u16) -> &'static str {
    match status {
        200 => "200 OK",
        201 => "201 Created",
        204 => "204 No Content",
        304 => "304 Not Modified",
        400 => "400 Bad Request",
        401 => "401 Unauthorized",
        403 => "403 Forbidden",
        404 => "404 Not Found",
        405 => "405 Method Not Allowed",
        409 => "409 Conflict",
        410 => "410 Gone",
        412 => "412 Precondition Failed",
        413 => "413 Content Too Large",
        422 => "422 Unprocessable Content",
        429 => "429 Too Many Requests",
        503 => "503 Service Unavailable",
        _ => "500 Internal Server Error",
    }
}
