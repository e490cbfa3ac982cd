//! What is known of a bundle while its entries are imported: which id each gets, and what its
//! conditional references mean.
use std::collections::{HashMap, HashSet};
use std::hash::{DefaultHasher, Hash, Hasher};

use fhir::search::Owns;
use fhir::{Reference, Resource, ResourceType};
use ledger::{Expected, Kind, Owner};
use trust::{TrustError, Vault};

use super::entry::{Entry, IdRule};
use super::{FOUND_MAX, Import, lock};
use crate::criteria::{Criteria, Found, Reading, Slot, UNLIKE};
use crate::refs;

/// What an entry is known by: 128 bits of hash instead of a text, because a bundle can have a million.
pub(super) type Key = u128;

pub(super) fn key<T: Hash>(value: &T) -> Key {
    let half = |salt: u8| {
        let mut hasher = DefaultHasher::new();
        salt.hash(&mut hasher);
        value.hash(&mut hasher);
        u128::from(hasher.finish())
    };
    half(0) << 64 | half(1)
}

/// What a conditional reference means.
#[derive(Debug, Clone)]
enum Meaning {
    /// Not looked up yet, or nothing found.
    Nothing,
    /// A resource of the store, `Type/id`.
    There(String),
    /// The entry with this key.
    Here(Key),
    /// It can't mean anything; why.
    Wrong(String),
}

/// Where an entry with criteria goes.
#[derive(Debug, Clone)]
enum Place {
    Unknown,
    /// This id; with what must be there.
    Free(String, Expected),
    /// This resource, which is there.
    There(String),
    Wrong(String),
}

/// The index of one bundle (or of lines that are worked on together).
#[derive(Default)]
pub(super) struct Index {
    targets: HashMap<Key, (ResourceType, Box<str>)>,
    /// Entries by type and identifier; `None` where several have the same.
    identifiers: HashMap<Key, Option<Key>>,
    references: HashMap<String, Meaning>,
    places: HashMap<String, Place>,
    /// Entries with criteria: key, type, the id that they had, criteria.
    placed: Vec<(Key, ResourceType, Option<Box<str>>, String)>,
    /// The URNs that entries have as their `fullUrl`, those of refused ones included.
    urns: HashSet<Key>,
    /// URNs that references name and no entry has. One may be a patient of another bundle, whose id
    /// follows from it.
    strangers: HashMap<String, Meaning>,
    /// Patients whose id depends on the whole bundle: key, the id that they had, name without it.
    nameless: Vec<(Key, Option<Box<str>>, String)>,
    /// Stands for all the entries so far, in their order.
    digest: u64,
    /// The search parameters of one's own, as they were when it was resolved.
    owns: Owns,
}

/// How criteria of an import are read, which has no address.
fn reading(owns: &Owns) -> Reading<'_> {
    Reading { base: "", owns }
}

/// Why an entry can't be finished.
pub(super) enum Unfinished {
    /// Something that it refers to is not there, yet; what, in words.
    Waits(String),
    Refused(String),
}

/// A resource ready to be written.
pub(super) struct Ready {
    pub(super) owner: Owner,
    pub(super) resource: Resource,
    /// If it is there already, it is left alone whatever it holds.
    pub(super) keep: bool,
    /// What is known to be there, if anything is.
    pub(super) expected: Option<Expected>,
    /// Whether its id says where it came from, not what its source calls it.
    pub(super) derived: bool,
    /// Whether its id is derived from a `fullUrl`, and so the same for other content.
    pub(super) named: bool,
}

impl Index {
    /// First look at an entry: patients get their ids, identifiers and conditional references are noted.
    pub(super) fn first(&mut self, import: &Import, entry: &Entry) {
        if entry.full_url.as_deref().is_some_and(refs::is_urn) {
            self.urns.insert(entry.key);
        }
        let Ok(resource) = &entry.resource else {
            return;
        };
        let kind = resource.kind();
        if let Some(identifiers) = resource.get("identifier") {
            let several = std::slice::from_ref(identifiers);
            for identifier in identifiers.as_array().map_or(several, Vec::as_slice) {
                let part = |name| {
                    identifier
                        .get(name)
                        .and_then(serde_json::Value::as_str)
                        .unwrap_or_default()
                };
                let name = key(&(kind.code(), part("system"), part("value")));
                let known = self.identifiers.entry(name).or_insert(Some(entry.key));
                if *known != Some(entry.key) {
                    *known = None;
                }
            }
        }
        let references = &mut self.references;
        resource.each_reference(&mut |text| {
            if text.contains('?')
                && refs::conditional(text).is_some()
                && !references.contains_key(text)
            {
                references.insert(text.to_owned(), Meaning::Nothing);
            }
        });
        if let IdRule::Criteria { text, .. } = &entry.id_rule {
            self.places.entry(text.clone()).or_insert(Place::Unknown);
            self.placed
                .push((entry.key, kind, resource.id().map(Into::into), text.clone()));
        } else if kind == ResourceType::Patient {
            let (vault, tenant) = (import.trust.vault(), import.permit.tenant());
            if entry.is_nameless() {
                let old = resource.id().map(Into::into);
                self.nameless.push((entry.key, old, name(entry)));
                return;
            }
            let id = match &entry.id_rule {
                IdRule::Given(id) => id.clone(),
                _ => vault.ledger().derive_own_id(tenant, &name(entry)),
            };
            self.insert(entry, kind, &id);
        }
    }

    fn insert(&mut self, entry: &Entry, kind: ResourceType, id: &str) {
        let old = entry.resource.as_ref().ok().and_then(Resource::id);
        self.insert_as(entry.key, kind, old, id);
    }

    fn insert_as(&mut self, name: Key, kind: ResourceType, old: Option<&str>, id: &str) {
        // Other people's bundles also refer by the id that a resource had where it came from.
        if let Some(old) = old.filter(|old| *old != id) {
            self.targets
                .insert(key(&("id", kind.code(), old)), (kind, id.into()));
        }
        self.targets.insert(name, (kind, id.into()));
    }

    /// Takes an entry into the sum of the bundle, by which patients without a name are told apart.
    pub(super) fn sum(&mut self, import: &Import, entry: &Entry) {
        let ledger = import.trust.vault().ledger();
        let text = String::from_utf8_lossy(entry.original.bytes());
        // A keyed hash that stays the same from one release to the next.
        let part = ledger.token(import.permit.tenant(), Kind(0), "import-bundle", &text);
        self.digest = self
            .digest
            .rotate_left(1)
            .wrapping_mul(0x9e37_79b9_7f4a_7c15)
            .wrapping_add(part.0);
    }

    /// All entries have been looked at: patients without a name get their ids.
    pub(super) fn firsts_are_done(&mut self, import: &Import) {
        let (ledger, tenant) = (import.trust.vault().ledger(), import.permit.tenant());
        for (key, old, name) in std::mem::take(&mut self.nameless) {
            let id = ledger.derive_own_id(tenant, &format!("{name}\n{:016x}", self.digest));
            self.insert_as(key, ResourceType::Patient, old.as_deref(), &id);
        }
    }

    /// Whether anything has to be looked up in the store.
    pub(super) fn asks(&self) -> bool {
        !self.references.is_empty() || !self.places.is_empty()
    }

    /// Looks up what is not known yet; tells whether something is still open.
    pub(super) async fn resolve(&mut self, import: &Import) -> Result<bool, TrustError> {
        let (vault, permit) = (import.trust.vault(), &import.permit);
        let owns = vault.owns(permit.tenant());
        self.owns = owns.clone();
        let reading = reading(&owns);
        for (text, place) in &mut self.places {
            if !matches!(place, Place::Unknown) {
                continue;
            }
            let Some((kind, query)) = refs::conditional(text) else {
                continue;
            };
            *place = match Criteria::parse(reading, kind, query) {
                Err(outcome) => Place::Wrong(format!("the criteria of the request: {outcome}")),
                Ok(criteria) => match criteria.find(vault, permit).await? {
                    Found::One(row) => Place::There(row.resource.id().unwrap_or_default().to_owned()),
                    Found::Several | Found::Hidden => Place::Wrong("the criteria of the request match several resources".to_owned()),
                    Found::Nothing => match criteria.slot(vault, permit).await? {
                        Slot::Free(id) => Place::Free(id, Expected::Absent),
                        Slot::Taken(row) => Place::There(row.resource.id().unwrap_or_default().to_owned()),
                        Slot::Exhausted => Place::Wrong("too many resources were created under these criteria and deleted or changed since".to_owned()),
                    },
                },
            };
        }
        for (name, kind, old, text) in std::mem::take(&mut self.placed) {
            if let Some(Place::Free(id, _) | Place::There(id)) = self.places.get(&text).cloned() {
                self.insert_as(name, kind, old.as_deref(), &id);
            }
        }
        let mut open = false;
        for (text, meaning) in &mut self.references {
            if !matches!(meaning, Meaning::Nothing) {
                continue;
            }
            let Some((kind, query)) = refs::conditional(text) else {
                continue;
            };
            let known = lock(&import.found).get(text).cloned();
            if let Some(known) = known {
                *meaning = Meaning::There(known);
                continue;
            }
            *meaning = match Criteria::parse(reading, kind, query) {
                Err(outcome) => Meaning::Wrong(format!("a conditional reference: {outcome}")),
                Ok(criteria) => {
                    let here = criteria.identifier().and_then(|(system, value)| {
                        self.identifiers.get(&key(&(kind.code(), system, value)))
                    });
                    match here {
                        Some(Some(key)) => Meaning::Here(*key),
                        Some(None) => Meaning::Wrong(
                            "a conditional reference matches several entries of the bundle"
                                .to_owned(),
                        ),
                        None => match criteria.find(vault, permit).await? {
                            Found::One(row) => {
                                let target =
                                    format!("{kind}/{}", row.resource.id().unwrap_or_default());
                                let mut found = lock(&import.found);
                                if found.len() >= FOUND_MAX {
                                    found.clear();
                                }
                                found.insert(text.clone(), target.clone());
                                Meaning::There(target)
                            }
                            Found::Several | Found::Hidden => Meaning::Wrong(
                                "a conditional reference matches several resources".to_owned(),
                            ),
                            Found::Nothing => {
                                open = true;
                                Meaning::Nothing
                            }
                        },
                    }
                }
            };
        }
        Ok(open)
    }

    /// Second look: with the patients known, everything else gets its owner and its id.
    pub(super) fn second(&mut self, import: &Import, entry: &mut Entry) {
        let base = entry.base().map(str::to_owned);
        let Ok(resource) = &mut entry.resource else {
            return;
        };
        let (urns, strangers) = (&self.urns, &mut self.strangers);
        let mut strange = false;
        resource.each_reference(&mut |text| {
            if refs::is_urn(text) && !urns.contains(&key(&text)) {
                strange = true;
                if !strangers.contains_key(text) {
                    strangers.insert(text.to_owned(), Meaning::Nothing);
                }
            }
        });
        let kind = resource.kind();
        let id = match &entry.id_rule {
            IdRule::Criteria { .. } => return,
            _ if kind == ResourceType::Patient => return,
            IdRule::Given(id) => id.clone(),
            IdRule::FullUrl | IdRule::Local | IdRule::Content => {
                refs::replace(resource, &mut |text| {
                    self.target(base.as_deref(), text)
                        .filter(|target| target.starts_with("Patient/"))
                });
                let mut owner = Vault::owner(resource);
                if strange {
                    // A stranger is taken for a patient; if it is none, the entry does not go in.
                    let mut guess = resource.clone();
                    refs::replace(&mut guess, &mut |text| {
                        let known = self.strangers.contains_key(text);
                        known.then(|| stranger(import, text))
                    });
                    owner = Vault::owner(&guess);
                }
                import.trust.vault().ledger().derive_id(
                    import.permit.tenant(),
                    &owner,
                    &name(entry),
                )
            }
        };
        self.insert(entry, kind, &id);
    }

    /// Looks up the strangers that are not known yet; tells whether one is still unknown.
    pub(super) async fn meet(&mut self, import: &Import) -> Result<bool, TrustError> {
        let (vault, permit) = (import.trust.vault(), &import.permit);
        let mut open = false;
        for (text, meaning) in &mut self.strangers {
            if !matches!(meaning, Meaning::Nothing) {
                continue;
            }
            let target = stranger(import, text);
            let id = target.strip_prefix("Patient/").unwrap_or_default();
            match vault.load(permit, ResourceType::Patient, id).await? {
                Some(row) if !row.deleted => *meaning = Meaning::There(target),
                _ => open = true,
            }
        }
        Ok(open)
    }

    /// What a reference becomes, if it becomes something else.
    fn target(&self, base: Option<&str>, text: &str) -> Option<String> {
        let show = |(kind, id): &(ResourceType, Box<str>)| format!("{kind}/{id}");
        if let Some(meaning) = self
            .references
            .get(text)
            .or_else(|| self.strangers.get(text))
        {
            return match meaning {
                Meaning::There(target) => Some(target.clone()),
                Meaning::Here(key) => self.targets.get(key).map(show),
                Meaning::Nothing | Meaning::Wrong(_) => None,
            };
        }
        if let Some(target) = self.targets.get(&key(&text)) {
            return Some(show(target));
        }
        if text.contains(':') {
            return None;
        }
        let reference = Reference::parse(text)?;
        if let Some(target) =
            base.and_then(|base| self.targets.get(&key(&format!("{base}{text}").as_str())))
        {
            return Some(show(target));
        }
        self.targets
            .get(&key(&("id", reference.kind.code(), reference.id.as_str())))
            .map(show)
    }

    /// Last look: gives the resource its id, replaces its references and checks it.
    pub(super) fn finish(&self, entry: &mut Entry) -> Result<Ready, Unfinished> {
        let base = entry.base().map(str::to_owned);
        let mut resource = match std::mem::replace(&mut entry.resource, Err(String::new())) {
            Ok(resource) => resource,
            Err(reason) => return Err(Unfinished::Refused(reason)),
        };
        let (mut keep, mut expected) = (false, None);
        if let IdRule::Criteria { text, update } = &entry.id_rule {
            match self.places.get(text) {
                Some(Place::There(_)) => keep = !update,
                Some(Place::Free(_, there)) => (keep, expected) = (!update, Some(*there)),
                Some(Place::Wrong(reason)) => return Err(Unfinished::Refused(reason.clone())),
                Some(Place::Unknown) | None => {
                    return Err(Unfinished::Refused(
                        "the criteria of the request were not looked up".to_owned(),
                    ));
                }
            }
        }
        let Some((_, id)) = self.targets.get(&entry.key) else {
            return Err(Unfinished::Refused("the entry has no id".to_owned()));
        };
        resource.set_id(id);
        resource.strip_meta();
        let mut wrong = None;
        refs::replace(&mut resource, &mut |text| {
            match self.references.get(text) {
                Some(Meaning::Nothing) => {
                    let kind =
                        refs::conditional(text).map_or(ResourceType::Patient, |(kind, _)| kind);
                    wrong.get_or_insert(Unfinished::Waits(format!(
                        "a conditional reference matches no {kind}"
                    )));
                }
                Some(Meaning::Wrong(reason)) => wrong = Some(Unfinished::Refused(reason.clone())),
                Some(Meaning::Here(key)) if !self.targets.contains_key(key) => {
                    wrong = Some(Unfinished::Refused(
                        "a conditional reference means an entry that is refused".to_owned(),
                    ));
                }
                _ => {}
            }
            self.target(base.as_deref(), text)
        });
        if let Some(wrong) = wrong {
            return Err(wrong);
        }
        let mut nowhere = None;
        resource.each_reference(&mut |text| {
            if refs::is_urn(text) && nowhere.is_none() {
                nowhere = Some(self.urns.contains(&key(&text)));
            }
        });
        match nowhere.filter(|_| resource.kind() != ResourceType::Bundle) {
            Some(true) => {
                let words = "a reference means an entry that is refused";
                return Err(Unfinished::Refused(words.to_owned()));
            }
            Some(false) => {
                let words = "a reference is a URN that neither an entry of the bundle nor a patient who is there has";
                return Err(Unfinished::Waits(words.to_owned()));
            }
            None => {}
        }
        if let IdRule::Criteria { text, .. } = &entry.id_rule
            && let Some(Place::Free(..)) = self.places.get(text)
            && let Some((kind, query)) = refs::conditional(text)
            && Criteria::parse(reading(&self.owns), kind, query)
                .is_ok_and(|criteria| !criteria.matches(&resource))
        {
            return Err(Unfinished::Refused(UNLIKE.to_owned()));
        }
        if let Err(outcome) = crate::validation::check_strictly(&resource) {
            let issues = outcome.issues.iter().map(|issue| match &issue.expression {
                Some(expression) => format!("{expression} {}", issue.diagnostics),
                None => issue.diagnostics.clone(),
            });
            return Err(Unfinished::Refused(issues.collect::<Vec<_>>().join("; ")));
        }
        let derived = matches!(
            entry.id_rule,
            IdRule::FullUrl | IdRule::Local | IdRule::Content
        );
        Ok(Ready {
            owner: Vault::owner(&resource),
            resource,
            keep,
            expected,
            derived,
            named: entry.id_rule == IdRule::FullUrl,
        })
    }

    /// Whether a patient is meant by a conditional reference that finds nothing: then nobody can say
    /// yet whose entries are, and so what their ids will be.
    pub(super) fn lacks_patient(&self) -> bool {
        self.references.iter().any(|(text, meaning)| {
            matches!(meaning, Meaning::Nothing) && text.starts_with("Patient?")
        })
    }
}

/// The reference to a patient of another bundle who has this URN as `fullUrl`.
fn stranger(import: &Import, urn: &str) -> String {
    let ledger = import.trust.vault().ledger();
    let id = ledger.derive_own_id(import.permit.tenant(), &format!("import\nPatient\n{urn}"));
    format!("Patient/{id}")
}

/// What an id is derived from.
fn name(entry: &Entry) -> String {
    let Ok(resource) = &entry.resource else {
        return String::new();
    };
    let kind = resource.kind();
    match (&entry.id_rule, &entry.full_url) {
        (IdRule::FullUrl, Some(full_url)) => format!("import\n{kind}\n{full_url}"),
        (rule, full_url) => {
            let mut resource = resource.clone();
            resource.strip_meta();
            let content = resource.to_json();
            let content = String::from_utf8_lossy(&content);
            match full_url.as_deref().filter(|_| *rule == IdRule::Local) {
                Some(urn) => format!("import-local\n{kind}\n{urn}\n{content}"),
                None => format!("import-content\n{kind}\n{content}"),
            }
        }
    }
}
