//! Search of one type, of several, and of compartments; and the cursor of its pages.
//!
//! Links to pages come in two forms. A search by GET has its parameters in its address already, and its
//! links repeat them, with a place that is signed. A search by POST, or within a bundle, keeps what it
//! asks for out of addresses, which proxies and logs see; so do its links: parameters and place are
//! sealed together.
use base64::Engine as _;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use fhir::search::{Scope, SearchQuery};
use fhir::{Issue, IssueCode, OperationOutcome, ResourceType, Severity};
use ledger::{Hit, Kind, Number, Shard, TenantId};
use trust::{Action, PageAt, Permit, Purpose, SortedAt};

use crate::emergency::named_in;
use crate::part::Part;
use crate::render::BundleWriter;
use crate::searched::{Searched, target};
use crate::write::{heavy, wrap};
use crate::{Answer, Caller, Record, RecordError, url};

/// The longest parameters that go sealed into a link, bytes; sealed they take a third more, and some
/// proxies take addresses of 8 KiB only.
const SEALED_BYTES_MAX: usize = 16 * 1024;
/// What a sealed cursor begins with; the other form is hexadecimal.
const SEALED: char = 's';

pub(crate) fn bad_cursor() -> RecordError {
    let words = "was not made by this server for this request; start again without it";
    RecordError::with(
        400,
        OperationOutcome::at(IssueCode::Value, words, "_cursor"),
    )
}

/// What a page says when what its list holds was changed since the first.
pub(crate) fn moved(what: &str) -> Issue {
    Issue {
        severity: Severity::Warning,
        code: IssueCode::Incomplete,
        diagnostics: format!(
            "{what} were changed since the first page; they may be missing from these pages, and the first page shows them when it is asked for again"
        ),
        expression: None,
    }
}

/// The place where the next page starts: hexadecimal numbers, and 16 digits of a keyed hash over them
/// and what was asked, so that nobody can make one up or carry it to another query.
pub(crate) struct Cursor<'a> {
    pub(crate) record: &'a Record,
    pub(crate) tenant: TenantId,
    pub(crate) kind: ResourceType,
    pub(crate) scope: &'a str,
}

impl Cursor<'_> {
    fn mac(&self, places: &[u64]) -> u64 {
        let ledger = self.record.vault().ledger();
        let mut text = hexadecimal(places);
        text.push('\n');
        text.push_str(self.scope);
        let kind = Kind(self.kind.code());
        ledger.token(self.tenant, kind, "_cursor", &text).0
    }
    pub(crate) fn seal(&self, places: &[u64]) -> String {
        hexadecimal(places) + &hexadecimal(&[self.mac(places)])
    }
    pub(crate) fn open<const N: usize>(&self, text: &str) -> Result<[u64; N], RecordError> {
        let digits = text.len() == 16 * (N + 1)
            && text
                .bytes()
                .all(|byte| byte.is_ascii_digit() || (b'a'..=b'f').contains(&byte));
        let part =
            |place: usize| u64::from_str_radix(text.get(16 * place..16 * (place + 1))?, 16).ok();
        let places = digits.then(|| (0..N).filter_map(part).collect::<Vec<u64>>());
        let places = places.and_then(|places| <[u64; N]>::try_from(places).ok());
        places
            .filter(|places| part(N) == Some(self.mac(places)))
            .ok_or_else(bad_cursor)
    }
}

fn hexadecimal(numbers: &[u64]) -> String {
    numbers
        .iter()
        .map(|number| format!("{number:016x}"))
        .collect()
}

/// What a sealed cursor holds.
#[derive(serde::Serialize, serde::Deserialize)]
struct Sealed {
    parameters: Vec<(String, String)>,
    /// Numbers of [`PageAt`]; nothing for the first page.
    place: Option<(u64, u64)>,
    /// Of a sorted search: the shard of [`SortedAt`].
    #[serde(default)]
    shard: u64,
    /// When the first page was asked for, where that counts.
    #[serde(default)]
    now_ms: u64,
}

/// Numbers of [`PageAt`], and the shard of [`SortedAt`], which counts in a sorted search only.
type Place = (u64, u64, u64);

/// The numbers of a link: a place, and when the first page was asked for.
fn numbers(places: &[u64], is_sorted: bool, about: bool) -> (Place, Option<u64>) {
    let shard = if is_sorted { places[2] } else { 0 };
    let now_ms = places.last().copied().filter(|_| about);
    ((places[0], places[1], shard), now_ms)
}

fn sorted_at((number, first, shard): Place) -> Result<SortedAt, RecordError> {
    let shard = u16::try_from(shard).map_err(|_| bad_cursor())?;
    Ok(SortedAt {
        last: Hit {
            number: Number(number),
            shard: Shard(shard),
        },
        first: Number(first),
    })
}

fn purpose(caller: &Caller, address: &str) -> String {
    format!("search\n{address}\n{}", caller.agent.id)
}

/// Who sees the addresses that links make.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Links {
    Open,
    Sealed,
}

/// What a cursor is bound to: what is searched for, but not how many a page shows.
fn scope(place: &Searched<'_>, query: &SearchQuery) -> String {
    let within = match place.scope {
        Scope::Type => String::new(),
        Scope::System | Scope::Compartment(..) => format!("within\n{}\n", place.address),
    };
    let asked = query
        .used
        .iter()
        .filter(|(name, _)| !matches!(name.as_str(), "_count" | "_total" | "_format"));
    format!(
        "{within}search\n{}",
        url::query(asked.map(|(name, value)| (name.as_str(), value.as_str())))
    )
}

impl Record {
    /// Type-level search, newest first.
    ///
    /// # Errors
    /// 400, 403, 500.
    pub async fn search(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        self.search_linked(caller, Searched::of_type(kind)?, parameters, Links::Open)
            .await
    }

    /// The same for parameters that came in a body; the links of its answer show none of them.
    ///
    /// # Errors
    /// As [`Record::search`]; 413 when there is a next page and the parameters are too long for a link.
    pub async fn search_by_post(
        &self,
        caller: &Caller,
        kind: ResourceType,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        self.search_linked(caller, Searched::of_type(kind)?, parameters, Links::Sealed)
            .await
    }

    /// Search of several types at once, or of a compartment; newest first.
    ///
    /// # Errors
    /// As [`Record::search`]; 400 also for parameters that not all of the types have.
    pub async fn search_within(
        &self,
        caller: &Caller,
        scope: &Scope,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        self.search_linked(caller, Searched::of(scope)?, parameters, Links::Open)
            .await
    }

    /// The same for parameters that came in a body.
    ///
    /// # Errors
    /// As [`Record::search_within`] and [`Record::search_by_post`].
    pub async fn search_within_by_post(
        &self,
        caller: &Caller,
        scope: &Scope,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        self.search_linked(caller, Searched::of(scope)?, parameters, Links::Sealed)
            .await
    }

    async fn search_linked(
        &self,
        caller: &Caller,
        at: Searched<'_>,
        parameters: &[(String, String)],
        mut links: Links,
    ) -> Result<Answer, RecordError> {
        let given: Vec<&str> = parameters
            .iter()
            .filter(|(name, _)| name == "_cursor")
            .map(|(_, value)| value.as_str())
            .collect();
        let given = match given.as_slice() {
            [] => None,
            [one] => Some((*one).to_owned()),
            _ => return Err(bad_cursor()),
        };
        if let (_, Some(patient)) = target(at.scope) {
            // Who may not look at this patient gets no list of others' resources that name them either.
            self.permit(caller, Action::Search, at.kind, Some(patient))
                .await?;
        }
        let sealed = match &given {
            Some(text) if text.starts_with(SEALED) => {
                links = Links::Sealed;
                // What is asked is in it, and nothing else is.
                if parameters.len() > 1 {
                    return Err(bad_cursor());
                }
                Some(self.unseal(&purpose(caller, &at.address), caller, text)?)
            }
            _ => None,
        };
        let asked = sealed
            .as_ref()
            .map_or(parameters, |sealed| &sealed.parameters);
        let of_compartment = target(at.scope)
            .1
            .filter(|_| caller.purpose == Purpose::Emergency);
        let whose = of_compartment.or_else(|| named_in(caller, at.kind, asked));
        let permit = self.permit(caller, Action::Search, at.kind, whose).await?;
        let named = at.kind.is_some() || asked.iter().any(|(name, _)| name == "_type");
        let part = Part::of(at.kind, asked)?;
        let owns = self.vault().owns(permit.tenant());
        let mut queries = at
            .queries(&part.others, caller.lenient, &owns)
            .map_err(|outcome| RecordError::with(400, outcome))?;
        for query in &mut queries {
            part.ask(query);
            query.of_server(&caller.base);
        }
        let Some(query) = queries.first() else {
            return Err(bad_cursor());
        };
        let scope = scope(&at, query);
        let cursor = Cursor {
            record: self,
            tenant: permit.tenant(),
            // What is asked of several types has its address in the scope.
            kind: at.kind.unwrap_or(ResourceType::Bundle),
            scope: &scope,
        };
        let is_sorted = !query.sort.is_empty();
        // All pages of a list are of one moment, if it depends on one.
        let about = queries.iter().any(SearchQuery::depends_on_now);
        let (place, then_ms) = match (&sealed, &given) {
            (Some(sealed), _) => {
                let place = sealed.place;
                let place = place.map(|(number, first)| (number, first, sealed.shard));
                (place, place.map(|_| sealed.now_ms))
            }
            (None, Some(text)) => {
                let places = match 2 + usize::from(is_sorted) + usize::from(about) {
                    2 => cursor.open::<2>(text)?.to_vec(),
                    3 => cursor.open::<3>(text)?.to_vec(),
                    _ => cursor.open::<4>(text)?.to_vec(),
                };
                let (place, then_ms) = numbers(&places, is_sorted, about);
                (Some(place), then_ms)
            }
            (None, None) => (None, None),
        };
        let now_ms = then_ms
            .and_then(|ms| i64::try_from(ms).ok())
            .unwrap_or_else(|| self.now_ms());
        if about {
            queries.iter_mut().for_each(|query| query.at(now_ms));
        }
        let Some(query) = queries.first() else {
            return Err(bad_cursor());
        };
        let now_ms = u64::try_from(now_ms).unwrap_or(0);
        let page_at = place.map(|(before, first, _)| PageAt {
            before: Number(before),
            first: Number(first),
        });
        if part.is_count() && page_at.is_some() {
            return Err(bad_cursor());
        }
        let of_type = matches!(at.scope, Scope::Type);
        let page = if is_sorted {
            let place = place.map(sorted_at).transpose()?;
            if of_type {
                self.vault().search_sorted(&permit, query, place).await
            } else {
                (self
                    .vault()
                    .search_types_sorted(&permit, &queries, named, place))
                .await
            }
        } else if of_type && part.is_whole() {
            self.vault().search_texts(&permit, query, page_at).await
        } else if of_type {
            self.vault().search_at(&permit, query, page_at).await
        } else {
            (self.vault().search_types(&permit, &queries, named, page_at)).await
        };
        let page = page.map_err(wrap(caller))?;

        let open_link = |cursor: Option<&str>| {
            let used = query
                .used
                .iter()
                .map(|(name, value)| (name.as_str(), value.as_str()));
            let text = url::query(used.chain(cursor.map(|cursor| ("_cursor", cursor))));
            let mark = if text.is_empty() { "" } else { "?" };
            format!("{}{mark}{text}", at.url(&caller.base))
        };
        let sealed_link = |place: Option<Place>| {
            let sealed = Sealed {
                parameters: query.used.clone(),
                place: place.map(|(before, first, _)| (before, first)),
                shard: place.map_or(0, |(_, _, shard)| shard),
                now_ms: if about { now_ms } else { 0 },
            };
            let text = self.seal(&purpose(caller, &at.address), &permit, &sealed)?;
            let url = at.url(&caller.base);
            Ok::<_, RecordError>(text.map(|text| format!("{url}?_cursor={text}")))
        };
        let first = page_at.map_or(page.as_of, |at| at.first);
        let last = page.rows.last().map_or(0, |row| u64::from(row.at.shard.0));
        let next = page.next.map(|next| (next.0, first.0, last));
        let mut shown = Vec::with_capacity(2);
        match links {
            Links::Open => {
                shown.push(("self", open_link(given.as_deref())));
                if let Some((before, first, shard)) = next {
                    let mut places = vec![before, first];
                    places.extend(is_sorted.then_some(shard));
                    places.extend(about.then_some(now_ms));
                    let cursor = cursor.seal(&places);
                    shown.push(("next", open_link(Some(&cursor))));
                }
            }
            Links::Sealed => {
                let own = sealed_link(place)?;
                let plain = || format!("{}/_search", at.url(&caller.base));
                shown.push(("self", own.unwrap_or_else(plain)));
                if next.is_some() {
                    let next = sealed_link(next)?.ok_or_else(too_long_to_link)?;
                    shown.push(("next", next));
                }
            }
        }
        let asked_none = query
            .used
            .iter()
            .any(|(name, value)| name == "_total" && value == "none");
        // A result that fits on its first page has been counted on the way.
        let counted =
            (page_at.is_none() && page.next.is_none() && !asked_none).then_some(page.rows.len());
        let mut bundle = BundleWriter::new("searchset", page.total.or(counted), &shown);
        let bytes = (page.rows.len() + page.included.len()) * 4096;
        let (base, ignored) = (caller.base.clone(), query.ignored.clone());
        let searched = at.kind.map_or_else(
            || "all types that are searched".to_owned(),
            |kind| kind.to_string(),
        );
        let body =
            heavy(bytes, move || {
                let matches = page.rows.iter().map(|row| (row, "match"));
                let included = page.included.iter().map(|row| (row, "include"));
                for (row, mode) in matches.chain(included) {
                    let (kind, id) = (row.resource.kind(), row.resource.id().unwrap_or_default());
                    let full_url = format!("{base}/{kind}/{id}");
                    let shown = if mode == "match" {
                        part.of_row(row)
                    } else {
                        part.json_of_included(&row.resource).into()
                    };
                    bundle.found(Some(&full_url), &shown, mode);
                }
                let mut issues: Vec<Issue> = Vec::new();
                if page.moved {
                    issues.push(moved("resources that match"));
                }
                issues.extend(ignored.iter().map(|name| Issue {
                    severity: Severity::Warning,
                    code: IssueCode::NotSupported,
                    diagnostics: format!(
                        "the parameter was ignored; it is no search parameter of {searched} here"
                    ),
                    expression: Some(
                        name.chars()
                            .filter(char::is_ascii_graphic)
                            .take(64)
                            .collect(),
                    ),
                }));
                if !issues.is_empty() {
                    let outcome = OperationOutcome { issues };
                    bundle.found(None, &outcome.to_resource().to_json(), "outcome");
                }
                bundle.finish()
            })
            .await?;
        Ok(crate::operations::answer(body))
    }

    /// A cursor that holds all of a search; `None` when it would be too long for a link.
    fn seal(
        &self,
        purpose: &str,
        permit: &Permit,
        sealed: &Sealed,
    ) -> Result<Option<String>, RecordError> {
        let text = serde_json::to_vec(sealed).map_err(|_| bad_cursor())?;
        if text.len() > SEALED_BYTES_MAX {
            return Ok(None);
        }
        let note = self
            .vault()
            .ledger()
            .seal_note(permit.tenant(), purpose, &text)
            .map_err(|error| RecordError::from_trust(error.into(), permit.request_id()))?;
        Ok(Some(format!("{SEALED}{}", URL_SAFE_NO_PAD.encode(note))))
    }

    fn unseal(&self, purpose: &str, caller: &Caller, text: &str) -> Result<Sealed, RecordError> {
        let note = text.strip_prefix(SEALED).unwrap_or_default();
        let note = URL_SAFE_NO_PAD.decode(note).map_err(|_| bad_cursor())?;
        let text = self
            .vault()
            .ledger()
            .open_note(caller.agent.tenant, purpose, &note)
            .map_err(|error| RecordError::from_trust(error.into(), &caller.request_id))?;
        let sealed = text.and_then(|text| serde_json::from_slice(&text).ok());
        sealed.ok_or_else(bad_cursor)
    }
}

fn too_long_to_link() -> RecordError {
    let words = format!(
        "there is a next page, and a link to it can hold parameters of {SEALED_BYTES_MAX} bytes only; ask for fewer values, or for more rows on a page"
    );
    RecordError::new(413, IssueCode::TooLong, words)
}
