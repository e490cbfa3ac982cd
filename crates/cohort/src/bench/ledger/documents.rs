//! Documents as an import brings them: resources of FHIR bundles with the search tokens that they get
//! in the `trust` crate, and the record of the audit that goes with each commit.
//!
//! A pool of bundles is parsed and indexed once. Each use of a bundle is another patient: the ids in
//! bodies and tokens are replaced, the rest is as it was, so that making documents costs little beside
//! what is measured.

use std::collections::HashMap;
use std::io::{BufRead, BufReader, Read};
use std::path::Path;

use anyhow::{Context, Result, ensure};
use fhir::search::{IndexValue, Span, index_of};
use fhir::{Resource, ResourceType};
use ledger::{
    AuditDraft, Commit, Draft, Expected, Kind, Ledger, Owner, Query, Shard, TenantId, Token,
};
use serde_json::Value;
use trust::indexing::{Measure, beginnings, ends, indexed, is_common, measures};

use super::records::{import_record, read_record};

/// The tenant of all documents.
pub(super) const TENANT: TenantId = TenantId(1);
/// The most documents of a commit, as in an import.
const COMMIT_DOCUMENTS: usize = 500;
/// Length of every id: a UUID's.
const ID_BYTES: usize = 36;
const DAY_MS: i64 = 86_400_000;
/// One document of so many is in groups: these tokens are the benchmark's own, and few.
const GROUPED: u64 = 20;
/// A token that an id goes into.
struct Personal {
    parameter: String,
    before: String,
    id: usize,
    after: String,
}

/// A document with places for ids.
struct Template {
    kind: Kind,
    own: usize,
    body: Vec<u8>,
    /// Where ids lie in the body, and which.
    places: Vec<(usize, usize)>,
    shared: Vec<Token>,
    personal: Vec<Personal>,
}

/// The documents of one patient, and the audit record of their import.
struct Bundle {
    ids: usize,
    documents: Vec<Template>,
    audit: Template,
}

/// Where documents come from.
pub(super) struct Documents {
    bundles: Vec<Bundle>,
    /// The record of a read; ids: its own, the patient's, the document's.
    read: Template,
    /// How many documents the first so many bundles have.
    offsets: Vec<u64>,
    groups: u64,
}

/// One written document, to be asked for.
pub(super) struct Known {
    pub(super) kind: Kind,
    pub(super) id: String,
    pub(super) patient: String,
}

impl Documents {
    /// A pool of `bundles`, for a store that will hold some `total` documents; a document has the
    /// tokens of two groups of `group_documents` if it is one of every [`GROUPED`], so that a group is
    /// spread over the whole store.
    pub(super) fn new(
        ledger: &Ledger,
        bundles: impl Iterator<Item = Result<Value>>,
        total: u64,
        group_documents: u64,
    ) -> Result<Self> {
        let mut pool = Vec::new();
        for bundle in bundles {
            pool.extend(Bundle::of(ledger, &bundle?)?);
        }
        ensure!(!pool.is_empty(), "no bundle has a Patient");
        let mut offsets = vec![0];
        for bundle in &pool {
            offsets.push(offsets[offsets.len() - 1] + bundle.documents.len() as u64);
        }
        let ids: Vec<String> = (0..3).map(placeholder).collect();
        let read = Template::of(ledger, &read_record(&ids), 0, &ids)?;
        Ok(Self {
            bundles: pool,
            read,
            offsets,
            groups: (total / GROUPED / group_documents).max(1),
        })
    }

    /// Documents of one round over the pool.
    fn round(&self) -> u64 {
        self.offsets[self.offsets.len() - 1]
    }

    /// The number of the first document of a bundle.
    fn first(&self, number: u64) -> u64 {
        let pool = self.bundles.len() as u64;
        number / pool * self.round() + self.offsets[(number % pool) as usize]
    }

    /// Bundles that bring some `documents`.
    pub(super) fn bundles_for(&self, documents: u64) -> u64 {
        let pool = self.bundles.len() as u64;
        (documents * pool).div_ceil(self.round())
    }

    /// Bytes of JSON and tokens of a document, on average.
    pub(super) fn means(&self) -> (f64, f64) {
        let all = || self.bundles.iter().flat_map(|bundle| &bundle.documents);
        let mean = |of: &dyn Fn(&Template) -> usize| {
            all().map(of).sum::<usize>() as f64 / all().count() as f64
        };
        let tokens = |template: &Template| template.shared.len() + template.personal.len();
        (mean(&|template| template.body.len()), mean(&tokens))
    }

    /// The ids of a bundle's documents, the patient's first.
    fn ids(&self, ledger: &Ledger, number: u64) -> Vec<String> {
        let patient = patient(ledger, number);
        let owner = Owner::Patient(patient.clone());
        let mut ids = vec![patient];
        ids.extend((1..self.bundle(number).ids).map(|id| own_id(ledger, &owner, number, id)));
        ids
    }

    fn bundle(&self, number: u64) -> &Bundle {
        &self.bundles[(number % self.bundles.len() as u64) as usize]
    }

    /// The commits of a bundle.
    pub(super) fn commits(&self, ledger: &Ledger, number: u64) -> Vec<Commit> {
        let bundle = self.bundle(number);
        let mut ids = self.ids(ledger, number);
        let owner = Owner::Patient(ids[0].clone());
        let shard = ledger.shard_of(TENANT, &owner, &ids[0]);
        let mut drafts: Vec<Draft> = (self.first(number)..)
            .zip(&bundle.documents)
            .map(|(document, template)| {
                let mut tokens = template.tokens(ledger, &ids);
                tokens.extend(
                    self.groups_of(document)
                        .map(|group| group_token(ledger, group)),
                );
                Draft {
                    kind: template.kind,
                    id: ids[template.own].clone(),
                    owner: owner.clone(),
                    expected: Expected::Absent,
                    body: template.body(&ids),
                    deleted: false,
                    tokens,
                }
            })
            .collect();
        let mut commits = Vec::new();
        while !drafts.is_empty() {
            let rest = drafts.split_off(drafts.len().min(COMMIT_DOCUMENTS));
            // The record's own id is the last one.
            let own = ids.len() - 1;
            ids[own] = ledger.mint_id(TENANT, &owner);
            commits.push(Commit {
                documents: std::mem::replace(&mut drafts, rest),
                audit: Some(bundle.audit.audit(ledger, shard, &ids)),
                ..Commit::new(TENANT)
            });
        }
        commits
    }

    /// A new document for a bundle's patient, by itself, as a device or a form brings them.
    pub(super) fn single(&self, ledger: &Ledger, number: u64) -> Commit {
        let bundle = self.bundle(number);
        let mut ids = self.ids(ledger, number);
        let owner = Owner::Patient(ids[0].clone());
        let template = bundle.documents.last().unwrap_or(&bundle.audit);
        ids[template.own] = ledger.mint_id(TENANT, &owner);
        let draft = Draft {
            kind: template.kind,
            id: ids[template.own].clone(),
            owner,
            expected: Expected::Absent,
            body: template.body(&ids),
            deleted: false,
            tokens: template.tokens(ledger, &ids),
        };
        let known = Known {
            kind: draft.kind,
            id: draft.id.clone(),
            patient: ids.swap_remove(0),
        };
        Commit {
            documents: vec![draft],
            ..self.read_of(ledger, &known)
        }
    }

    /// Document `at` of a bundle, or another if that is the patient.
    pub(super) fn known_besides_patient(&self, ledger: &Ledger, number: u64, at: u64) -> Known {
        let known = self.known(ledger, number, at);
        if known.id == known.patient {
            return self.known(ledger, number, 1);
        }
        known
    }

    /// Document `at` of a bundle.
    pub(super) fn known(&self, ledger: &Ledger, number: u64, at: u64) -> Known {
        let documents = &self.bundle(number).documents;
        let template = &documents[(at % documents.len() as u64) as usize];
        let patient = patient(ledger, number);
        let id = match template.own {
            0 => patient.clone(),
            own => own_id(ledger, &Owner::Patient(patient.clone()), number, own),
        };
        Known {
            kind: template.kind,
            id,
            patient,
        }
    }

    /// The commit that records that a document was read (or, with a document, that it was written).
    pub(super) fn read_of(&self, ledger: &Ledger, known: &Known) -> Commit {
        let owner = Owner::Patient(known.patient.clone());
        let ids = [
            ledger.mint_id(TENANT, &owner),
            known.patient.clone(),
            known.id.clone(),
        ];
        let shard = ledger.shard_of(TENANT, &owner, &ids[0]);
        Commit {
            audit: Some(self.read.audit(ledger, shard, &ids)),
            ..Commit::new(TENANT)
        }
    }

    /// The two groups of a document, if it is in any: it shares both with every second document of
    /// the first.
    fn groups_of(&self, document: u64) -> impl Iterator<Item = u64> {
        let (grouped, place) = (document.is_multiple_of(GROUPED), document / GROUPED);
        let first = place % self.groups;
        let second = (first + place / self.groups % 2) % self.groups;
        [first * 2, second * 2 + 1]
            .into_iter()
            .filter(move |_| grouped)
    }

    /// Documents of a group.
    pub(super) fn group(&self, ledger: &Ledger, number: u64) -> Query {
        Query::Token(group_token(ledger, number % self.groups * 2))
    }

    /// Documents of two groups, which share half of theirs.
    pub(super) fn two_groups(&self, ledger: &Ledger, number: u64) -> Query {
        let group = number % self.groups;
        Query::And(vec![
            Query::Token(group_token(ledger, group * 2)),
            Query::Token(group_token(ledger, group * 2 + 1)),
        ])
    }
}

fn patient(ledger: &Ledger, number: u64) -> String {
    ledger.derive_own_id(TENANT, &format!("bench {number}"))
}

fn own_id(ledger: &Ledger, owner: &Owner, number: u64, id: usize) -> String {
    ledger.derive_id(TENANT, owner, &format!("bench {number}/{id}"))
}

/// The document with a token that no other has; a patient has none of its own.
pub(super) fn by_own_token(ledger: &Ledger, known: &Known) -> Query {
    Query::Token(ledger.token(TENANT, known.kind, "~twins", &known.id))
}

fn group_token(ledger: &Ledger, group: u64) -> Token {
    ledger.token(TENANT, Kind(0), "group", &group.to_string())
}

/// An id that nothing else can be taken for.
fn placeholder(number: usize) -> String {
    format!("{number:08x}-cafe-4cab-8cab-c0ffeec0ffee")
}

impl Bundle {
    /// A patient's bundle as templates; nothing when it has no patient.
    fn of(ledger: &Ledger, bundle: &Value) -> Result<Option<Self>> {
        let entries = bundle["entry"].as_array().map_or(&[][..], Vec::as_slice);
        let kind = |entry: &Value| {
            entry["resource"]["resourceType"]
                .as_str()
                .map(str::to_owned)
        };
        let mut entries: Vec<&Value> = entries
            .iter()
            .filter(|entry| kind(entry).is_some())
            .collect();
        entries.sort_by_key(|entry| kind(entry).is_none_or(|kind| kind != "Patient"));
        if entries
            .first()
            .is_none_or(|first| kind(first).is_none_or(|kind| kind != "Patient"))
        {
            return Ok(None);
        }
        // The last one is for the audit record.
        let ids: Vec<String> = (0..=entries.len()).map(placeholder).collect();
        let mut names = HashMap::new();
        for (entry, id) in entries.iter().zip(&ids) {
            if let Some(url) = entry["fullUrl"].as_str() {
                names.insert(url, format!("{}/{id}", kind(entry).unwrap_or_default()));
            }
        }
        let mut documents = Vec::with_capacity(entries.len());
        let mut touched = Vec::with_capacity(entries.len());
        for (own, entry) in entries.iter().enumerate() {
            let mut resource = entry["resource"].clone();
            resource["id"] = ids[own].clone().into();
            resolve(&mut resource, &names);
            touched.push(format!("{}/{}", kind(entry).unwrap_or_default(), ids[own]));
            documents.push(Template::of(ledger, &resource, own, &ids)?);
        }
        let record = import_record(&ids[entries.len()], &touched);
        Ok(Some(Self {
            ids: ids.len(),
            documents,
            audit: Template::of(ledger, &record, entries.len(), &ids)?,
        }))
    }
}

/// Puts `Type/id` where a bundle names its own entries.
fn resolve(value: &mut Value, names: &HashMap<&str, String>) {
    match value {
        Value::String(text) => {
            if let Some(name) = names.get(text.as_str()) {
                text.clone_from(name);
            }
        }
        Value::Array(items) => items.iter_mut().for_each(|item| resolve(item, names)),
        Value::Object(members) => members.values_mut().for_each(|item| resolve(item, names)),
        _ => {}
    }
}

impl Template {
    fn of(ledger: &Ledger, resource: &Value, own: usize, ids: &[String]) -> Result<Self> {
        let resource = Resource::from_value(resource.clone())
            .map_err(|outcome| anyhow::anyhow!("a bundle's resource: {outcome:?}"))?;
        let body = resource.to_json();
        let mut places = Vec::new();
        let numbers: HashMap<&[u8], usize> = (0..)
            .zip(ids)
            .map(|(number, id)| (id.as_bytes(), number))
            .collect();
        for (at, window) in body.windows(ID_BYTES).enumerate() {
            if let Some(number) = numbers.get(window) {
                places.push((at, *number));
            }
        }
        let mut template = Self {
            kind: Kind(resource.kind().code()),
            own,
            body,
            places,
            shared: Vec::new(),
            personal: Vec::new(),
        };
        template.index(ledger, &resource, ids);
        Ok(template)
    }

    fn span(
        &mut self,
        name: &str,
        span: &Span,
        tokens: impl Fn(TenantId, Kind, &str, i64) -> Vec<Token>,
    ) {
        for (way, position) in ends(span) {
            let name = format!("{name}{way}");
            (self.shared).extend(tokens(TENANT, self.kind, &name, position));
        }
    }

    /// The tokens that `trust` gives a resource: as its `tokens.rs` says.
    fn index(&mut self, ledger: &Ledger, resource: &Resource, ids: &[String]) {
        let is_audit = resource.kind() == ResourceType::AuditEvent;
        for entry in index_of(resource, |name| indexed(resource.kind(), name)) {
            let name = entry.parameter;
            match entry.value {
                IndexValue::Token { code, .. } => {
                    if !is_common(resource.kind(), name, &code) {
                        self.one(ledger, name.to_owned(), &code, ids);
                    }
                }
                IndexValue::String(text) => {
                    for beginning in beginnings(resource.kind(), &text) {
                        self.one(ledger, format!("{name}^"), beginning, ids);
                    }
                }
                IndexValue::Date { start_ms, end_ms } => {
                    let day = |ms: i64| ms.div_euclid(DAY_MS).clamp(-100_000, 100_000);
                    let (first, last) = (day(start_ms), day(end_ms.saturating_sub(1)));
                    let mut days = |way: &str, day| {
                        let name = format!("{name}{way}");
                        self.shared
                            .extend(ledger.range_tokens(TENANT, self.kind, &name, day));
                    };
                    if first == last {
                        days("@", first);
                    } else {
                        days("<", first);
                        days(">", last);
                    }
                }
                IndexValue::Reference(reference) => {
                    // Of a patient's documents their owner's token finds these.
                    if !reference.starts_with("Patient/") {
                        self.one(ledger, format!("{name}/"), &reference, ids);
                    }
                }
                IndexValue::Uri(uri) => self.one(ledger, format!("{name}:"), &uri, ids),
                IndexValue::Number(span) => self.span(name, &span, |tenant, kind, name, at| {
                    ledger.coarse_range_tokens(tenant, kind, name, at)
                }),
                IndexValue::Quantity(quantity) => {
                    for measure in measures(name, &quantity) {
                        match measure {
                            Measure::Precise(name, span) => {
                                self.span(&name, span, |tenant, kind, name, at| {
                                    ledger.coarse_range_tokens(tenant, kind, name, at)
                                });
                            }
                            Measure::Rough(name, span) => {
                                self.span(&name, span, |tenant, kind, name, at| {
                                    ledger.rough_range_tokens(tenant, kind, name, at)
                                });
                            }
                            Measure::Words(name, words) => self.one(ledger, name, &words, ids),
                        }
                    }
                }
            }
        }
        // The patient's token, and what is the same for every owner of a derived id.
        self.one(
            ledger,
            "~patient".into(),
            &ids[usize::from(is_audit && self.own == 0)],
            ids,
        );
        if !is_audit && self.own > 0 {
            self.one(ledger, "~twins".into(), &ids[self.own], ids);
        }
        self.shared.sort_unstable();
        self.shared.dedup();
    }

    fn one(&mut self, ledger: &Ledger, parameter: String, value: &str, ids: &[String]) {
        let place = (0..).zip(ids).find_map(|(number, id)| {
            value
                .split_once(id.as_str())
                .map(|(before, after)| (number, before, after))
        });
        match place {
            Some((id, before, after)) => self.personal.push(Personal {
                parameter,
                before: before.to_owned(),
                id,
                after: after.to_owned(),
            }),
            None => self
                .shared
                .push(ledger.token(TENANT, self.kind, &parameter, value)),
        }
    }

    fn body(&self, ids: &[String]) -> Vec<u8> {
        let mut body = self.body.clone();
        for (at, id) in &self.places {
            body[*at..*at + ID_BYTES].copy_from_slice(ids[*id].as_bytes());
        }
        body
    }

    fn tokens(&self, ledger: &Ledger, ids: &[String]) -> Vec<Token> {
        let mut tokens = Vec::with_capacity(self.shared.len() + self.personal.len() + 3);
        tokens.extend_from_slice(&self.shared);
        tokens.extend(self.personal.iter().map(|personal| {
            let value = [&*personal.before, &*ids[personal.id], &*personal.after].concat();
            ledger.token(TENANT, self.kind, &personal.parameter, &value)
        }));
        tokens
    }

    fn audit(&self, ledger: &Ledger, shard: Shard, ids: &[String]) -> AuditDraft {
        AuditDraft {
            kind: self.kind,
            id: ids[self.own].clone(),
            shard,
            tokens: self.tokens(ledger, ids),
            body: self.body(ids),
            parts: Vec::new(),
        }
    }
}

/// Bundles of a file: one a line, compressed with gzip if its name ends in `.gz`.
pub(super) fn from_file(path: &Path) -> Result<impl Iterator<Item = Result<Value>> + use<>> {
    let file = std::fs::File::open(path).with_context(|| path.display().to_string())?;
    let reader: Box<dyn Read> = if path.extension().is_some_and(|ending| ending == "gz") {
        Box::new(flate2::read::MultiGzDecoder::new(file))
    } else {
        Box::new(file)
    };
    let path = path.to_owned();
    Ok(BufReader::new(reader).lines().map(move |line| {
        let line = line.with_context(|| path.display().to_string())?;
        serde_json::from_str(&line).with_context(|| path.display().to_string())
    }))
}
