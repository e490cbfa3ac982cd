//! What patients' consents hide from a permit, row by row.
//!
//! A patient's consents are made ready once, and again when one of them has another version. Who asks, and
//! what holds, is looked at anew in every request.
use std::collections::{BTreeSet, HashMap};
use std::hash::Hash;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

use fhir::{Resource, ResourceType};
use ledger::{Hit, KeepsOpened, Query, TenantId, View};

use super::{ConsentWhy, RowWhy, Sight, Vault, explain, fetch_in, open};
use crate::consent::{Access, Asked, Reach, Related, Row, keeps_from_proxy, related_of};
use crate::policy::Group;
use crate::tokens::LEFT_OUT_MAX;
use crate::{Action, Permit, Purpose, Role, TrustError, tokens};

/// Patients whose consents are kept ready, in each of two generations: more than the largest list goes through (5,000
/// tasks), so that looking at it again finds all of them. Some hundred bytes each.
const KEPT_HALF: usize = 8192;
/// Consents looked up at a time.
const PAGE: usize = 256;
/// Consents of several patients that one search finds, at most. Of more, each patient's are looked for.
const CONSENTS_A_SEARCH: usize = 1024;
/// Patients whose consents are looked for by one search: each is a list of it.
const PATIENTS_A_SEARCH: usize = 128;
/// The most instances of one patient's consents whose own references are looked at. Of more, what refers to
/// them is related and what they refer to isn't.
const RELATED_MAX: usize = 64;

/// What consents hide from one request.
#[derive(Default)]
pub(super) struct Hidden {
    of_patients: HashMap<String, Arc<Access>>,
    known_as: Option<Vec<String>>,
    /// What explains that the asker looks at a patient's record, or that nothing does.
    pub(super) relations: HashMap<String, Option<String>>,
    /// The same of all patients with whom the asker has a relationship, once it was looked for: nothing where
    /// that are too many.
    pub(super) related: Option<Option<HashMap<String, String>>>,
    /// Counts rows, where somebody wants to know how many were looked at.
    pub(super) tally: Option<explain::Tally>,
    /// Patients whose consents show nothing to the asker of what they reach whole, as they were met: rows of
    /// theirs need not be opened to be turned down.
    barred: Vec<String>,
    /// The patient whose consent hid the row that was looked at last, where a consent did.
    pub(super) denied: Option<Denied>,
}

/// A consent that hides something.
#[derive(Debug, Clone)]
pub(super) struct Denied {
    /// The id of whose it is.
    pub(super) patient: String,
    /// Its id.
    pub(super) consent: String,
    /// Why, in words without anything of a patient.
    pub(super) reason: String,
}

impl Hidden {
    /// Whether it was looked for with whom somebody has a relationship, and found.
    pub(super) fn knows_related(&self) -> bool {
        matches!(self.related, Some(Some(_)))
    }

    /// How much is known by now that narrows a search: it is planned anew when that grows.
    pub(super) fn known(&self) -> usize {
        usize::from(self.knows_related()) + self.barred.len()
    }

    /// The patients whose rows a search can leave out, where consents reach them whole.
    pub(super) fn barred(&self) -> &[String] {
        &self.barred
    }

    /// Notes whose rows can be left out. Not where it is told how a search is made, which must not depend on what
    /// is hidden.
    fn bar(&mut self, patient: &str) {
        let is_new = !self.barred.iter().any(|known| known == patient);
        if is_new && self.tally.is_none() && self.barred.len() < LEFT_OUT_MAX {
            self.barred.push(patient.to_owned());
        }
    }
}

/// What may be kept from somebody of one patient's record.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct KeptFrom {
    /// What is clinical, for want of a relationship.
    pub unrelated: bool,
    /// What the patient's consents keep, all or a part.
    pub by_consents: bool,
    /// Entries with a label that need a consent which there is not, and sealed ones: the reason for each.
    pub labels: Vec<String>,
}

impl KeptFrom {
    /// Whether it is nothing.
    #[must_use]
    pub fn is_nothing(&self) -> bool {
        !self.unrelated && !self.by_consents && self.labels.is_empty()
    }
}

/// Consents that were made ready, with the versions that they were made of.
#[derive(Default)]
pub(super) struct Kept(Mutex<Memory>);

#[derive(Default)]
struct Memory {
    ready: Twice<(TenantId, String), Ready>,
    /// Whose the consents at some places are, to look for those of many patients at once.
    whose: Twice<(TenantId, Hit), String>,
    /// How often all was forgotten.
    cleared: u64,
}

type Ready = (Vec<Hit>, Arc<Access>);

/// What was used lately, in two generations: what is used moves into the young one, and when that is full the old one
/// goes.
struct Twice<K, V> {
    young: HashMap<K, V>,
    old: HashMap<K, V>,
}

impl<K, V> Default for Twice<K, V> {
    fn default() -> Self {
        Self {
            young: HashMap::new(),
            old: HashMap::new(),
        }
    }
}

impl<K: Eq + Hash + Clone, V: Clone> Twice<K, V> {
    fn get(&mut self, key: &K, half: usize) -> Option<V> {
        if let Some(value) = self.young.get(key) {
            return Some(value.clone());
        }
        let value = self.old.remove(key)?;
        self.put(key.clone(), value.clone(), half);
        Some(value)
    }

    fn put(&mut self, key: K, value: V, half: usize) {
        // Another value may be in the old one still.
        self.old.remove(&key);
        if self.young.len() >= half && !self.young.contains_key(&key) {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, value);
    }
}

impl Kept {
    fn lock(&self) -> MutexGuard<'_, Memory> {
        self.0.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// How often all was forgotten; asked before consents are read that are then kept.
    fn cleared(&self) -> u64 {
        self.lock().cleared
    }

    fn get(&self, key: &(TenantId, String), hits: &[Hit]) -> Option<Arc<Access>> {
        let (versions, access) = self.lock().ready.get(key, KEPT_HALF)?;
        (versions == hits).then_some(access)
    }

    /// Keeps what was read since all was forgotten so many times, unless it was forgotten again meanwhile.
    fn put(&self, key: (TenantId, String), ready: Ready, cleared: u64) {
        let mut kept = self.lock();
        if kept.cleared == cleared {
            kept.ready.put(key, ready, KEPT_HALF);
        }
    }

    fn whose(&self, tenant: TenantId, hit: Hit) -> Option<String> {
        self.lock().whose.get(&(tenant, hit), KEPT_HALF)
    }

    fn note(&self, tenant: TenantId, hit: Hit, patient: &str, cleared: u64) {
        let mut kept = self.lock();
        if kept.cleared == cleared {
            kept.whose.put((tenant, hit), patient.to_owned(), KEPT_HALF);
        }
    }
}

impl KeepsOpened for Kept {
    fn keys_forgotten(&self, _: u64) {
        let mut kept = self.lock();
        let cleared = kept.cleared + 1;
        let before = std::mem::replace(
            &mut *kept,
            Memory {
                cleared,
                ..Memory::default()
            },
        );
        // Dropped without the lock.
        drop(kept);
        drop(before);
    }
}

impl Vault {
    /// Whether patients' consents hide a row from this permit. A row that names several patients is as
    /// private as the most private of them.
    pub(super) async fn hides(
        &self,
        view: &Sight,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        self.weighs(view, permit, resource, hidden, None).await
    }

    /// The same, and why, where somebody wants to know: one decision for both, so that what is told is what is
    /// done.
    pub(super) async fn weighs(
        &self,
        view: &Sight,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
        mut told: Option<&mut RowWhy>,
    ) -> Result<bool, TrustError> {
        let rules = self.rules();
        hidden.denied = None;
        if self.is_kept(permit, resource) {
            if let Some(why) = told {
                why.barred = Some("it is kept from those who act for the patient".to_owned());
            }
            return Ok(true);
        }
        if let Some(why) = told.as_deref_mut() {
            why.relations = self
                .relations_of(view.rules(), permit, resource, hidden)
                .await?;
        }
        let Some(reach) = reach(permit, resource.kind()) else {
            if let Some(why) = told {
                why.unasked = Some("consents hide no row of this type");
            }
            return Ok(false);
        };
        if self
            .lacks_relation(view.rules(), permit, resource, hidden)
            .await?
        {
            if let Some(why) = told {
                self.tell_unrelated(view, permit, resource, hidden, why)
                    .await?;
            }
            return Ok(true);
        }
        if let Some(denied) = self.sealed(view.rules(), permit, resource, hidden).await? {
            if let Some(why) = told {
                why.barred = Some(denied.to_owned());
            }
            return Ok(true);
        }
        let mut patients = resource.patients();
        let named = patients.clone();
        let Some(purpose) = self.judged(permit, &mut patients) else {
            if let Some(why) = told {
                why.unasked = Some("consents do not bind this role for this purpose");
            }
            return Ok(false);
        };
        if let Some(why) = told.as_deref_mut() {
            let free = named.iter().filter(|patient| !patients.contains(patient));
            why.consents.extend(free.map(|patient| ConsentWhy {
                patient: Some((*patient).to_owned()),
                permitted: true,
                reason: "in an emergency of theirs consents do not bind".to_owned(),
                consent: None,
            }));
        }
        let mut of_patients = Vec::with_capacity(patients.len());
        for patient in &patients {
            of_patients.push(self.access(view.rules(), permit, patient, hidden).await?);
        }
        // What is labelled needs a consent, also where nobody is named who could have given it.
        if of_patients.is_empty()
            && rules.labels_any(permit.agent.role, &Row::new(&rules.tables, resource))
        {
            of_patients.push(Arc::default());
        }
        let mut asked = self.asked(permit, &of_patients, hidden).await?;
        asked.purpose = purpose;
        let row = Row::new(&rules.tables, resource);
        let mut is_hidden = false;
        for (place, access) in of_patients.iter().enumerate() {
            let verdict = access.decide(rules, &asked, &row, reach);
            if let Some(why) = told.as_deref_mut() {
                why.consents.push(ConsentWhy {
                    patient: patients.get(place).map(|patient| (*patient).to_owned()),
                    permitted: verdict.permitted,
                    reason: verdict.reason.to_owned(),
                    consent: verdict.consent.map(str::to_owned),
                });
                is_hidden |= !verdict.permitted;
                continue;
            }
            if !verdict.permitted {
                let patient = patients.get(place);
                hidden.denied = patient
                    .zip(verdict.consent)
                    .map(|(patient, consent)| Denied {
                        patient: (*patient).to_owned(),
                        consent: consent.to_owned(),
                        reason: verdict.reason.to_owned(),
                    });
                if let Some(patient) = patient
                    && reach == Reach::Whole
                    && access.denies_all(rules, &asked)
                {
                    hidden.bar(patient);
                }
                return Ok(true);
            }
            if let Some(notice) = verdict.notice {
                permit.freshness.notify(notice);
            }
        }
        if let Some(why) = told
            && of_patients.is_empty()
        {
            why.unasked = Some("the row names no patient");
        }
        Ok(is_hidden)
    }

    /// With which patients of a row there is a relationship.
    async fn tell_unrelated(
        &self,
        view: &Sight,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
        why: &mut RowWhy,
    ) -> Result<(), TrustError> {
        for patient in resource.patients() {
            let lacks = self
                .is_unrelated(view.rules(), permit, patient, hidden)
                .await?;
            let reason = if lacks {
                self.rules().relationships().denied().to_owned()
            } else {
                let found = self.relation(view.rules(), permit, patient, hidden).await?;
                found.unwrap_or_else(|| "an emergency of theirs needs no relationship".to_owned())
            };
            why.consents.push(ConsentWhy {
                patient: Some(patient.to_owned()),
                permitted: !lacks,
                reason,
                consent: None,
            });
        }
        Ok(())
    }

    /// Whether a permit and patients' consents let a row be seen: what each answer asks of each of its
    /// rows, here by itself, to be measured. The row is the caller's own; consents alone are read.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn would_show(&self, permit: &Permit, row: &Resource) -> Result<bool, TrustError> {
        let view = Sight::now(self.ledger().view()?);
        let mut hidden = Hidden::default();
        Ok(permit.allows(Action::Read, row.kind())
            && permit.covers(Action::Read, row)
            && !self.hides(&view, permit, row, &mut hidden).await?)
    }

    /// Whether what a row says decides whether consents hide it, beside whose it is: then those members that
    /// say whose it is are not enough for [`Vault::hides`]. `part` has these, `text` is the whole as it is
    /// stored.
    pub(super) async fn consents_look_into(
        &self,
        view: &Sight,
        permit: &Permit,
        (part, text): (&Resource, &[u8]),
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        // What the patient keeps from who acts for them is told by its labels and codes.
        if permit.agent.role == Role::Proxy {
            return Ok(true);
        }
        // Rules ask for labels, and those that a row has are in members of these names (`security`,
        // `securityLabel`); a composition's mark is its `confidentiality`.
        let text = std::str::from_utf8(text);
        let has = |name: &str| text.map_or(true, |text| text.contains(name));
        let is_labelled = has("\"security");
        if self.seals(permit)
            && reach(permit, part.kind()).is_some()
            && (is_labelled || has("\"confidentiality"))
        {
            return Ok(true);
        }
        let mut patients = part.patients();
        if reach(permit, part.kind()).is_none() || self.judged(permit, &mut patients).is_none() {
            return Ok(false);
        }
        if is_labelled {
            return Ok(true);
        }
        for patient in patients {
            let access = self.access(view.rules(), permit, patient, hidden).await?;
            if access.looks_into_rows() {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether a row is not for somebody who acts for a patient. Without knowing what they may be shown, nothing
    /// of a patient is.
    fn is_kept(&self, permit: &Permit, resource: &Resource) -> bool {
        if permit.agent.role != Role::Proxy {
            return false;
        }
        let rules = self.rules();
        match (rules.proxies(), permit.standing) {
            (Some(proxies), Some(standing)) => {
                keeps_from_proxy(proxies, standing, &Row::new(&rules.tables, resource))
            }
            _ => resource.patient().is_some(),
        }
    }

    /// The purpose by which the consents of those that a row names bind a permit, and whose they are; `None`
    /// if nobody's do. An emergency is one patient's: what others say holds as for any treatment.
    fn judged(&self, permit: &Permit, patients: &mut Vec<&str>) -> Option<Purpose> {
        let (rules, role) = (self.rules(), permit.agent.role);
        if rules.reaches(role, permit.purpose) {
            return Some(permit.purpose);
        }
        let only = permit.only_patient()?;
        if permit.purpose != Purpose::Emergency || !rules.reaches(role, Purpose::Treatment) {
            return None;
        }
        patients.retain(|patient| *patient != only);
        (!patients.is_empty()).then_some(Purpose::Treatment)
    }

    /// Whether a patient's consents, or that there is no relationship with them, or a seal may hide anything from
    /// this permit: something may then be missing from what it is shown.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn may_hide(&self, permit: &Permit, patient: &str) -> Result<bool, TrustError> {
        let mut hidden = Hidden::default();
        let view = self.ledger().view()?;
        if self
            .is_unrelated(&view, permit, patient, &mut hidden)
            .await?
            || self.may_seal(&view, permit, patient, &mut hidden).await?
        {
            return Ok(true);
        }
        let access = self.access(&view, permit, patient, &mut hidden).await?;
        let asked = self
            .asked(permit, std::slice::from_ref(&access), &mut hidden)
            .await?;
        Ok(access.may_deny(self.rules(), &asked))
    }

    /// What may be kept from a permit of one patient's record, were its purpose another. Whether there is any such
    /// thing is not looked at.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn kept_from(
        &self,
        permit: &Permit,
        patient: &str,
        purpose: Purpose,
    ) -> Result<KeptFrom, TrustError> {
        let (rules, role) = (self.rules(), permit.agent.role);
        let mut hidden = Hidden::default();
        let view = self.ledger().view()?;
        let is_free = purpose == Purpose::Emergency && rules.free_in_emergency().contains(&role);
        let unrelated = rules.relationships().asks(role).needed
            && !is_free
            && (self.relation(&view, permit, patient, &mut hidden).await?).is_none();
        let access = self.access(&view, permit, patient, &mut hidden).await?;
        let asked = self
            .asked(permit, std::slice::from_ref(&access), &mut hidden)
            .await?;
        let asked = Asked { purpose, ..asked };
        let mut labels = access.labels_denied(rules, &asked);
        for seal in rules.seals().about(role).filter(|_| !is_free) {
            let by = self.relation(&view, permit, patient, &mut hidden).await?;
            if !by.is_some_and(|by| seal.is_opened_by(&by)) {
                labels.push(seal.denied().to_owned());
            }
        }
        Ok(KeptFrom {
            unrelated,
            by_consents: access.may_deny(rules, &asked),
            labels,
        })
    }

    /// Whether a patient's consents or a seal may hide anything from somebody who acts for them.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub(crate) async fn may_hide_from_proxy(
        &self,
        tenant: TenantId,
        patient: &str,
        proxy: &str,
    ) -> Result<bool, TrustError> {
        let view = self.ledger().view()?;
        let (marked, are_all) = self
            .marked_rows(&view, tenant, Role::Proxy, patient)
            .await?;
        if !marked.is_empty() || !are_all {
            return Ok(true);
        }
        let consents = self.patients_consents(&view, tenant, patient).await?;
        let access = ready(&view, tenant, &consents).await?;
        let asked = Asked {
            role: Role::Proxy,
            purpose: Role::Proxy.purpose(),
            now_ms: i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX),
            known_as: vec![format!("{}/{proxy}", ResourceType::RelatedPerson)],
        };
        Ok(access.may_deny(self.rules(), &asked))
    }

    pub(super) async fn asked(
        &self,
        permit: &Permit,
        of_patients: &[Arc<Access>],
        hidden: &mut Hidden,
    ) -> Result<Asked, TrustError> {
        let mut known_as = Vec::new();
        if of_patients.iter().any(|access| access.names_actors()) {
            known_as = self.known_as_once(permit, hidden).await?;
        }
        Ok(Asked {
            role: permit.agent.role,
            purpose: permit.purpose,
            now_ms: i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX),
            known_as,
        })
    }

    /// What the asker is known as in FHIR, read once in a request.
    pub(super) async fn known_as_once(
        &self,
        permit: &Permit,
        hidden: &mut Hidden,
    ) -> Result<Vec<String>, TrustError> {
        if hidden.known_as.is_none() {
            hidden.known_as = Some(self.known_as(permit).await?);
        }
        Ok(hidden.known_as.clone().unwrap_or_default())
    }

    /// What the asker is known as in FHIR.
    async fn known_as(&self, permit: &Permit) -> Result<Vec<String>, TrustError> {
        let (tenant, agent) = (permit.tenant(), &permit.agent);
        let mut known_as = crate::identity::known_as(self.ledger(), tenant, &agent.id).await?;
        // Whoever acts for a patient is not the patient.
        if agent.role == Role::Proxy {
            known_as.push(format!("{}/{}", ResourceType::RelatedPerson, agent.id));
        } else {
            let own = agent.patient.iter();
            known_as.extend(own.map(|patient| format!("{}/{patient}", ResourceType::Patient)));
        }
        Ok(known_as)
    }

    /// What somebody of the permit's tenant is known as in FHIR, by the id of their account: administrators say so.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn person_known_as(
        &self,
        permit: &Permit,
        account: &str,
    ) -> Result<Vec<String>, TrustError> {
        crate::identity::known_as(self.ledger(), permit.tenant(), account).await
    }

    /// What the care programmes of a tenant are known as in FHIR: administrators say so.
    ///
    /// # Errors
    /// `Ledger`, `Damaged`.
    pub async fn programmes_known_as(&self, tenant: TenantId) -> Result<Vec<String>, TrustError> {
        crate::identity::known_as(self.ledger(), tenant, crate::identity::PROGRAMMES).await
    }

    /// A patient's consents, ready to be asked.
    pub(super) async fn access(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        hidden: &mut Hidden,
    ) -> Result<Arc<Access>, TrustError> {
        if let Some(known) = hidden.of_patients.get(patient) {
            return Ok(known.clone());
        }
        let key = (permit.tenant(), patient.to_owned());
        let cleared = self.inner.consents.cleared();
        let hits = self.consents_of(view, key.0, patient).await?;
        let access = match self.inner.consents.get(&key, &hits) {
            Some(kept) => kept,
            None => {
                let consents = consents_at(view, key.0, patient, &hits).await?;
                let access = Arc::new(ready(view, key.0, &consents).await?);
                // What instances refer to can change without a change of the consents.
                if consents
                    .iter()
                    .all(|consent| related_of(consent).is_empty())
                {
                    let ready = (hits, access.clone());
                    self.inner.consents.put(key, ready, cleared);
                }
                access
            }
        };
        hidden
            .of_patients
            .insert(patient.to_owned(), access.clone());
        Ok(access)
    }

    /// Makes ready what will be asked of the consents of patients, of many by one search. What isn't ready then is
    /// looked for when it is asked for: where there are too many consents for one search or one that can't be read, and
    /// of who has some that were not met before.
    pub(super) async fn access_ahead(
        &self,
        view: &View,
        permit: &Permit,
        patients: &BTreeSet<&str>,
        hidden: &mut Hidden,
    ) -> Result<(), TrustError> {
        let (ledger, tenant) = (self.ledger(), permit.tenant());
        let unknown = patients.iter().copied();
        let unknown: Vec<&str> = unknown
            .filter(|patient| !hidden.of_patients.contains_key(*patient))
            .collect();
        let kept = &self.inner.consents;
        let cleared = kept.cleared();
        'of_some: for some in unknown.chunks(PATIENTS_A_SEARCH) {
            let lists = some
                .iter()
                .map(|patient| tokens::of_patient(ledger, tenant, ResourceType::Consent, patient));
            let query = Query::Or(lists.collect());
            let hits = view
                .search(tenant, &query, None, None, CONSENTS_A_SEARCH)
                .await?;
            if hits.len() == CONSENTS_A_SEARCH {
                continue;
            }
            let mut of_each: HashMap<String, Vec<Hit>> = HashMap::new();
            for hit in hits {
                let patient = match kept.whose(tenant, hit) {
                    Some(patient) => patient,
                    None => {
                        let stored = fetch_in(view, tenant, hit).await?;
                        // Whose one is that can't be read now is not known, so nobody here counts as without.
                        let Some(stored) = stored.filter(|stored| !stored.deleted) else {
                            continue 'of_some;
                        };
                        let consent = open(&stored)?.resource;
                        let patient = consent.patient().unwrap_or_default().to_owned();
                        kept.note(tenant, hit, &patient, cleared);
                        patient
                    }
                };
                of_each.entry(patient).or_default().push(hit);
            }
            for patient in some {
                let access = match of_each.get(*patient) {
                    None => Some(Arc::default()),
                    Some(hits) => kept.get(&(tenant, (*patient).to_owned()), hits),
                };
                if let Some(access) = access {
                    hidden.of_patients.insert((*patient).to_owned(), access);
                }
            }
        }
        Ok(())
    }

    /// Whether consents are asked for every row of a type under a permit.
    pub(super) fn asks_consents(&self, permit: &Permit, kind: ResourceType) -> bool {
        reach(permit, kind).is_some() && self.rules().reaches(permit.agent.role, permit.purpose)
    }

    /// All live consents of a patient.
    pub(super) async fn patients_consents(
        &self,
        view: &View,
        tenant: TenantId,
        patient: &str,
    ) -> Result<Vec<Resource>, TrustError> {
        let hits = self.consents_of(view, tenant, patient).await?;
        consents_at(view, tenant, patient, &hits).await
    }

    /// Where a patient's live consents lie, newest first.
    async fn consents_of(
        &self,
        view: &View,
        tenant: TenantId,
        patient: &str,
    ) -> Result<Vec<Hit>, TrustError> {
        let query = tokens::of_patient(self.ledger(), tenant, ResourceType::Consent, patient);
        let mut all = Vec::new();
        let mut before = None;
        loop {
            let hits = view.search(tenant, &query, before, None, PAGE).await?;
            let is_last = hits.len() < PAGE;
            before = hits.last().map(|last| last.number);
            all.extend(hits);
            if is_last {
                return Ok(all);
            }
        }
    }
}

/// How much of a resource type consents can hide.
pub(super) fn reach(permit: &Permit, kind: ResourceType) -> Option<Reach> {
    match permit.grants.group(kind) {
        Group::Clinical | Group::Financial => Some(Reach::Whole),
        // What a patient keeps from who acts for them, they keep whole.
        Group::Coordination if permit.agent.role == Role::Proxy => Some(Reach::Whole),
        // Work on these keeps the patient safe and heard.
        Group::Coordination => Some(Reach::Particular),
        _ => None,
    }
}

/// Consents made ready, with what instances that they call related refer to.
pub(super) async fn ready(
    view: &View,
    tenant: TenantId,
    consents: &[Resource],
) -> Result<Access, TrustError> {
    let wanted: BTreeSet<String> = consents.iter().flat_map(related_of).collect();
    let related = related_at(view, tenant, &wanted).await?;
    Ok(Access::of(consents, &related))
}

async fn consents_at(
    view: &View,
    tenant: TenantId,
    patient: &str,
    hits: &[Hit],
) -> Result<Vec<Resource>, TrustError> {
    let mut consents = Vec::new();
    for hit in hits {
        if let Some(stored) = fetch_in(view, tenant, *hit).await?
            && !stored.deleted
        {
            let consent = open(&stored)?.resource;
            if consent.patient() == Some(patient) {
                consents.push(consent);
            }
        }
    }
    Ok(consents)
}

/// What some instances refer to.
async fn related_at(
    view: &View,
    tenant: TenantId,
    wanted: &BTreeSet<String>,
) -> Result<Related, TrustError> {
    let mut related = Related::new();
    for reference in wanted.iter().take(RELATED_MAX) {
        let Some((kind, id)) = fhir::Reference::relative(reference) else {
            continue;
        };
        let stored = match view.get(tenant, tokens::kind(kind), id).await {
            Err(ledger::LedgerError::KeyDestroyed) => None,
            other => other?,
        };
        let Some(stored) = stored.filter(|stored| !stored.deleted) else {
            continue;
        };
        let resource = open(&stored)?.resource;
        let mut refers_to = Vec::new();
        resource.each_reference(&mut |text| {
            refers_to.extend(crate::consent::unversioned(text).map(str::to_owned));
        });
        related.insert(reference.clone(), refers_to.into());
    }
    Ok(related)
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What is asked for again stays, however many others come, and what is kept is bounded; a list of as many as a
    /// generation finds all of them again.
    #[test]
    fn what_is_used_stays_ready() {
        let mut kept = Twice::default();
        for number in 0..100 {
            kept.put(number, number, 4);
            assert_eq!(kept.get(&0, 4), Some(0));
            assert!(kept.young.len() <= 4 && kept.old.len() <= 4);
        }
        assert_eq!((kept.get(&99, 4), kept.get(&50, 4)), (Some(99), None));
        // The newest value counts, wherever the one before is.
        kept.put(0, 7, 4);
        for number in 200..204 {
            kept.put(number, number, 4);
        }
        assert_eq!(kept.get(&0, 4), Some(7));
        let mut list = Twice::default();
        (0..4).for_each(|number| list.put(number, (), 4));
        for _ in 0..3 {
            assert!((0..4).all(|number| list.get(&number, 4).is_some()));
        }
    }

    /// What was read before keys were forgotten is not kept after.
    #[test]
    fn what_is_ready_goes_with_a_key() {
        let kept = Kept::default();
        let tenant = TenantId(1);
        let key = (tenant, "p".to_owned());
        let before = kept.cleared();
        kept.put(key.clone(), (Vec::new(), Arc::default()), before);
        assert!(kept.get(&key, &[]).is_some());
        kept.keys_forgotten(1);
        assert!(kept.get(&key, &[]).is_none());
        kept.put(key.clone(), (Vec::new(), Arc::default()), before);
        assert!(kept.get(&key, &[]).is_none());
    }
}
