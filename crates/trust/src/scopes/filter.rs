//! The search parameters of a scope: which rows of its type it is about.
//!
//! Each row is decided by itself, so only parameters of a resource's own content can stand here: no chains,
//! no words, nothing that depends on other rows, on when it is asked, or on when it was written.

use std::fmt;
use std::fmt::Write as _;
use std::sync::Arc;

use fhir::ResourceType;
use fhir::search::SearchQuery;

/// The most parameters of one scope; they are looked at for each row.
const PARAMETERS_MAX: usize = 10;
/// Common parameters that a row by itself answers.
const COMMON: [&str; 4] = ["_id", "_profile", "_security", "_tag"];

/// Parameters, all of which a row has to match.
#[derive(Debug, Clone)]
pub(super) struct Filter {
    pairs: Vec<(String, String)>,
    query: Arc<SearchQuery>,
}

impl PartialEq for Filter {
    fn eq(&self, other: &Self) -> bool {
        // The query follows from them.
        self.query.kind == other.query.kind && self.pairs == other.pairs
    }
}

impl Eq for Filter {}

impl Filter {
    pub(super) fn parse(kind: ResourceType, text: &str) -> Result<Self, String> {
        let pairs: Vec<(String, String)> = form_urlencoded::parse(text.as_bytes())
            .into_owned()
            .collect();
        Self::of(kind, pairs)
    }

    fn of(kind: ResourceType, mut pairs: Vec<(String, String)>) -> Result<Self, String> {
        if kind == ResourceType::AuditEvent {
            // What it names of others isn't shown, and must not be found out by asking for it.
            return Err("an AuditEvent is shown in part, so it takes no filter".to_owned());
        }
        pairs.sort();
        pairs.dedup();
        if pairs.is_empty() || pairs.len() > PARAMETERS_MAX {
            return Err(format!(
                "a filter has one to {PARAMETERS_MAX} search parameters"
            ));
        }
        for (name, _) in &pairs {
            let plain = name.split(':').next().unwrap_or_default();
            if plain.starts_with('_') && !COMMON.contains(&plain) {
                return Err(format!(
                    "of the parameters that begin with _, a filter takes {}",
                    COMMON.join(", ")
                ));
            }
        }
        let query = SearchQuery::parse(kind, &pairs, false).map_err(|outcome| outcome.summary())?;
        if !query.links.is_empty() {
            return Err("a filter takes no chained parameters".to_owned());
        }
        if query.needs_codes() {
            return Err(
                "a filter takes no value sets and no :above and :below of codes".to_owned(),
            );
        }
        if query.depends_on_now() {
            return Err("a filter takes no dates that are about (ap) another".to_owned());
        }
        let is_plain = query.conditions.is_empty()
            && !query.asks_owns()
            && query.includes.is_empty()
            && query.sort.is_empty()
            && !query.reads_texts();
        if !is_plain {
            return Err("a filter takes search parameters of the type alone".to_owned());
        }
        Ok(Self {
            pairs,
            query: Arc::new(query),
        })
    }

    /// The parameters of both, if they are not too many.
    pub(super) fn and(&self, other: &Self) -> Option<Self> {
        let pairs = self.pairs.iter().chain(&other.pairs).cloned().collect();
        Self::of(self.query.kind, pairs).ok()
    }

    pub(super) fn query(&self) -> &SearchQuery {
        &self.query
    }
}

impl fmt::Display for Filter {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for (position, (name, value)) in self.pairs.iter().enumerate() {
            if position > 0 {
                f.write_char('&')?;
            }
            encode(f, name, b"=")?;
            f.write_char('=')?;
            encode(f, value, b"")?;
        }
        Ok(())
    }
}

/// Writes a part of a query as SMART's examples have it: what a scope can hold stands as it is.
fn encode(f: &mut fmt::Formatter<'_>, text: &str, besides: &[u8]) -> fmt::Result {
    for byte in text.bytes() {
        let is_plain =
            byte.is_ascii_graphic() && !b"\"\\%&+".contains(&byte) && !besides.contains(&byte);
        if is_plain {
            f.write_char(char::from(byte))?;
        } else {
            write!(f, "%{byte:02X}")?;
        }
    }
    Ok(())
}
