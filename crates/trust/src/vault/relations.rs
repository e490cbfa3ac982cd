//! Which relationship of somebody with a patient explains that they look at the record, if one does.
//!
//! It is looked for in what is written now, however old what is looked at may be. Whoever may write the team
//! of a patient can put themselves into it: that is in the audit as a write, and before what they look at.
use std::collections::{BTreeMap, HashMap, HashSet};

use fhir::search::{SearchQuery, can_be_of_patient};
use fhir::{Resource, ResourceType};
use ledger::{Hit, LedgerError, Number, TenantId, View};

use super::consents::{Hidden, reach};
use super::{RelationWhy, Vault, Versioned, fetch_in, open};
use crate::audit::{NONE, Record, Touched, UNKNOWN};
use crate::consent::{By, Level, Reach, Row, Work};
use crate::tokens::Whose;
use crate::{Permit, Purpose, Role, TrustError, tokens};

/// Rows that are looked at together, and the most that are for one relationship: those of one person with one
/// patient.
const AT_ONCE: usize = 64;
const ALL_AT_ONCE: usize = 1024;
const LOOKED_AT_MAX: usize = 4096;
/// The most patients of one request whose relationships are looked for: some hundred microseconds each.
const PATIENTS_MAX: usize = if cfg!(test) { 20 } else { 2000 };
/// From so many patients of one request on, all are looked for with whom somebody has a relationship; and rows
/// that are looked at for that, about 20 µs each: where it decides what is shown, and where it is only told.
const MANY: usize = if cfg!(test) { 1 } else { 32 };
const ALL_LOOKED_AT_MAX: usize = if cfg!(test) { 64 } else { 20_000 };
const TOLD_LOOKED_AT_MAX: usize = 1024;
/// Search parameters that find marks of confidentiality, each of the types that have it.
const MARKS: [&str; 3] = ["_security", "security-label", "confidentiality"];
/// So many marked rows of one patient are looked at; of more, something may be sealed.
const MARKED_MAX: usize = 256;
/// What it says of one in an emergency of one patient, which is looked into by itself.
const EMERGENCY: &str = "emergency access";
/// What it says of who writes a new patient down, who had none to do with them before.
const REGISTRATION: &str = "registration";
const REGISTRATION_WORDS: &str = "they wrote down that you are a patient here";
/// Of more patients of one answer it isn't looked for tasks; what the answer itself has of these counts. Some
/// fifty microseconds each.
const WORK_PATIENTS_MAX: usize = 128;

/// What the audit says of an access, read: what explains it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Relation {
    /// A relationship: to the patient, in plain words that go on from "because" (`they are in your care team`).
    /// The name that the audit has where the rules in force have no words for it.
    By(String),
    /// An emergency access to this patient.
    Emergency,
    /// Nothing that is on record.
    None,
    /// It couldn't be told at that time.
    Unknown,
}

impl Vault {
    /// The words that explain an access to a patient's record: what makes the relationship, and the resource
    /// that says so. `None`: there is no relationship.
    pub(super) async fn relation(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        hidden: &mut Hidden,
    ) -> Result<Option<String>, TrustError> {
        if let Some(known) = hidden.relations.get(patient) {
            return Ok(known.clone());
        }
        if hidden.relations.len() >= MANY || hidden.related.is_some() {
            if hidden.related.is_none() {
                let all = self.all_relations(view, permit, hidden).await?;
                hidden.related = Some(all);
            }
            if let Some(Some(all)) = &hidden.related {
                return Ok(all.get(patient).cloned());
            }
        }
        if hidden.relations.len() >= PATIENTS_MAX {
            return Err(TrustError::TooCostly(format!(
                "it would have to be told of more than {PATIENTS_MAX} patients whether there is a relationship with them; narrow it"
            )));
        }
        // Others have their turn between one patient and the next.
        if !hidden.relations.is_empty() {
            tokio::task::yield_now().await;
        }
        let known_as = self.known_as_once(permit, hidden).await?;
        let found = self.find_relation(view, permit, patient, &known_as).await?;
        hidden.relations.insert(patient.to_owned(), found.clone());
        Ok(found)
    }

    /// What explains an access, of each patient with whom somebody has a relationship; nothing where more rows
    /// would have to be looked at than that is worth.
    async fn all_relations(
        &self,
        view: &View,
        permit: &Permit,
        hidden: &mut Hidden,
    ) -> Result<Option<HashMap<String, String>>, TrustError> {
        let tenant = permit.tenant();
        let asks = self.rules().relationships().asks(permit.agent.role);
        let decides = asks.needed || self.seals(permit);
        let most = if decides {
            ALL_LOOKED_AT_MAX
        } else {
            TOLD_LOOKED_AT_MAX
        };
        let known_as = self.known_as_once(permit, hidden).await?;
        let now_ms = i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let (mut all, mut looked_at) = (HashMap::new(), 0);
        for by in self.rules().relationships().by() {
            let Some(query) = by.query(&known_as, None) else {
                continue;
            };
            let plan = tokens::plan(self.ledger(), tenant, &query, None);
            let mut before = None;
            loop {
                let hits = view
                    .search(tenant, &plan.query, before, None, ALL_AT_ONCE)
                    .await?;
                looked_at += hits.len();
                if looked_at > most {
                    return Ok(None);
                }
                for (place, hit) in hits.iter().enumerate() {
                    if place.is_multiple_of(AT_ONCE) {
                        tokio::task::yield_now().await;
                    }
                    let Some(row) = self.counting(view, (tenant, *hit), &query).await? else {
                        continue;
                    };
                    if !query.matches(&row) || !by.counts(&row, &known_as, now_ms) {
                        continue;
                    }
                    for patient in row.patients() {
                        let of_patient = by.query(&known_as, Some(patient));
                        if of_patient.is_some_and(|query| query.matches(&row)) {
                            let id = row.id().unwrap_or_default();
                            all.entry(patient.to_owned())
                                .or_insert_with(|| format!("{} {}/{id}", by.name, query.kind));
                        }
                    }
                }
                before = hits.last().map(|last| last.number);
                if hits.len() < ALL_AT_ONCE {
                    break;
                }
            }
        }
        Ok(Some(all))
    }

    /// A live row of a query's type that can be read.
    async fn counting(
        &self,
        view: &View,
        (tenant, hit): (TenantId, Hit),
        query: &SearchQuery,
    ) -> Result<Option<Resource>, TrustError> {
        let stored = fetch_in(view, tenant, hit).await?;
        let live = stored.filter(|one| !one.deleted && one.kind == tokens::kind(query.kind));
        // What can't be read explains nothing; whoever asks for it is told.
        Ok(live
            .and_then(|stored| open(&stored).ok())
            .map(|row| row.resource))
    }

    async fn find_relation(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        known_as: &[String],
    ) -> Result<Option<String>, TrustError> {
        let tenant = permit.tenant();
        let now_ms = i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let mut without_rows: Vec<&By> = Vec::new();
        for by in self.rules().relationships().by() {
            if without_rows.iter().any(|other| other.looks_where(by)) {
                continue;
            }
            let Some(query) = by.query(known_as, Some(patient)) else {
                continue;
            };
            let plan = tokens::plan(self.ledger(), tenant, &query, None);
            let (mut before, mut looked_at) = (None, 0);
            loop {
                let hits = view
                    .search(tenant, &plan.query, before, None, AT_ONCE)
                    .await?;
                for hit in &hits {
                    let Some(row) = self.counting(view, (tenant, *hit), &query).await? else {
                        continue;
                    };
                    if query.matches(&row) && by.counts(&row, known_as, now_ms) {
                        let id = row.id().unwrap_or_default();
                        return Ok(Some(format!("{} {}/{id}", by.name, query.kind)));
                    }
                }
                looked_at += hits.len();
                if looked_at == 0 {
                    without_rows.push(by);
                }
                before = hits.last().map(|last| last.number);
                if hits.len() < AT_ONCE {
                    break;
                }
                if looked_at >= LOOKED_AT_MAX {
                    return Err(TrustError::TooCostly(format!(
                        "more than {LOOKED_AT_MAX} of one person with one patient would have to be looked at to tell their relationship"
                    )));
                }
            }
        }
        Ok(None)
    }

    /// Whether a row is hidden because somebody has no relationship with one of those whose it is. What is
    /// coordinated, and who the patients are, is seen without one: it begins by these.
    pub(super) async fn lacks_relation(
        &self,
        view: &View,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let asks = self.rules().relationships().asks(permit.agent.role);
        if !asks.needed || reach(permit, resource.kind()) != Some(Reach::Whole) {
            return Ok(false);
        }
        for patient in resource.patients() {
            if self.is_unrelated(view, permit, patient, hidden).await? {
                return Ok(true);
            }
        }
        Ok(false)
    }

    /// Whether anything is sealed from somebody, so that a relationship may decide what they are shown.
    pub(super) fn seals(&self, permit: &Permit) -> bool {
        let mut seals = self.rules().seals().about(permit.agent.role);
        seals.next().is_some()
    }

    /// Why a sealed row is hidden, if it is: somebody has marked it, and the asker is neither named as one who made
    /// it nor has, with each of those whose it is, a relationship that opens the seal.
    pub(super) async fn sealed(
        &self,
        view: &View,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<Option<&str>, TrustError> {
        let (rules, role) = (self.rules(), permit.agent.role);
        if !self.seals(permit) {
            return Ok(None);
        }
        let row = Row::new(&rules.tables, resource);
        let marked = row.labels().marked;
        let Some(seal) = marked.and_then(|marked| rules.seals().on(role, marked)) else {
            return Ok(None);
        };
        let known_as = self.known_as_once(permit, hidden).await?;
        if known_as.iter().any(|who| row.is_by(who)) {
            return Ok(None);
        }
        let patients = resource.patients();
        for patient in &patients {
            if self.is_emergency_of(permit, patient) {
                continue;
            }
            let by = self.relation(view, permit, patient, hidden).await?;
            if !by.is_some_and(|by| seal.is_opened_by(&by)) {
                return Ok(Some(seal.denied()));
            }
        }
        // Nobody has a relationship with nobody.
        Ok(patients.is_empty().then(|| seal.denied()))
    }

    /// Whether a row of a patient is sealed from a permit, or may be.
    pub(super) async fn may_seal(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let (tenant, role) = (permit.tenant(), permit.agent.role);
        let (rows, are_all) = self.marked_rows(view, tenant, role, patient).await?;
        for row in &rows {
            if reach(permit, row.kind()).is_some()
                && self.sealed(view, permit, row, hidden).await?.is_some()
            {
                return Ok(true);
            }
        }
        Ok(!are_all)
    }

    /// Rows of a patient that are marked so that a seal keeps them from a role unless something opens it; and
    /// whether these are all that may be. They are found by their own marks, not by those of what is in them.
    pub(super) async fn marked_rows(
        &self,
        view: &View,
        tenant: TenantId,
        role: Role,
        patient: &str,
    ) -> Result<(Vec<Resource>, bool), TrustError> {
        let rules = self.rules();
        let levels = Level::ALL.into_iter();
        let levels = levels.filter(|level| rules.seals().on(role, *level).is_some());
        let levels: Vec<&str> = levels.map(Level::code).collect();
        if levels.is_empty() {
            return Ok((Vec::new(), true));
        }
        let levels = levels.join(",");
        let mut queries = Vec::new();
        for kind in ResourceType::all().filter(|kind| can_be_of_patient(*kind)) {
            // These are never sealed.
            if matches!(kind, ResourceType::Patient | ResourceType::Consent) {
                continue;
            }
            for name in MARKS {
                let marked = [(name.to_owned(), levels.clone())];
                queries.extend(SearchQuery::parse(kind, &marked, false));
            }
        }
        let asked = queries
            .iter()
            .map(|query| (query, Whose::Patients(patient)));
        let plan = tokens::plan_all(self.ledger(), tenant, asked);
        let hits = view
            .search(tenant, &plan.query, None, None, MARKED_MAX)
            .await?;
        let mut rows = Vec::new();
        for hit in &hits {
            let Some(stored) = fetch_in(view, tenant, *hit).await? else {
                continue;
            };
            if stored.deleted {
                continue;
            }
            let row = open(&stored)?.resource;
            let marked = Row::new(&rules.tables, &row).labels().marked;
            if marked.is_some_and(|marked| rules.seals().on(role, marked).is_some()) {
                rows.push(row);
            }
        }
        Ok((rows, hits.len() < MARKED_MAX))
    }

    /// Refuses to write a row that is marked so that who writes it would not see it: they could neither look it
    /// up nor put it right. Systems pass on what others wrote, for whom it is.
    ///
    /// # Errors
    /// `Invalid`, and those of looking for a relationship.
    pub(super) async fn check_seal(
        &self,
        permit: &Permit,
        resource: &Resource,
    ) -> Result<(), TrustError> {
        if permit.agent.role == Role::Client || reach(permit, resource.kind()).is_none() {
            return Ok(());
        }
        let view = self.ledger().view()?;
        let mut hidden = Hidden::default();
        match self.sealed(&view, permit, resource, &mut hidden).await? {
            None => Ok(()),
            Some(denied) => Err(TrustError::Invalid(format!(
                "you would not see it once it is written ({denied}): name yourself as who made it, in an element of its type that says so, or leave the mark out"
            ))),
        }
    }

    /// Which relationships there are with those whose a row is, where the rules ask for any of the role.
    pub(super) async fn relations_of(
        &self,
        view: &View,
        permit: &Permit,
        resource: &Resource,
        hidden: &mut Hidden,
    ) -> Result<Vec<RelationWhy>, TrustError> {
        let asks = self.rules().relationships().asks(permit.agent.role);
        let mut found = Vec::new();
        if !asks.told {
            return Ok(found);
        }
        let needed = asks.needed && reach(permit, resource.kind()) == Some(Reach::Whole);
        for patient in resource.patients() {
            found.push(RelationWhy {
                patient: patient.to_owned(),
                by: self.relation(view, permit, patient, hidden).await?,
                needed: needed && !self.is_emergency_of(permit, patient),
            });
        }
        Ok(found)
    }

    /// Whether rows of a type are shown of those patients alone with whom somebody has a relationship.
    pub(super) fn wants_relations(&self, permit: &Permit, kind: ResourceType) -> bool {
        let asks = self.rules().relationships().asks(permit.agent.role);
        asks.needed && reach(permit, kind) == Some(Reach::Whole) && can_be_of_patient(kind)
    }

    /// The patients to whom a search can be narrowed: those with whom somebody has a relationship, where all of
    /// them are known, and what is nobody's is found by its token. Not where it is told how a search is made, which must not depend on them; and not where
    /// one patient alone is asked about, which narrows more and may be an emergency.
    pub(super) fn narrows_to<'h>(
        &self,
        permit: &Permit,
        hidden: &'h Hidden,
    ) -> Option<&'h HashMap<String, String>> {
        let has_token = self.ledger().ownerless_since() < Number(u64::MAX);
        if !has_token || hidden.tally.is_some() || permit.only_patient().is_some() {
            return None;
        }
        hidden.related.as_ref()?.as_ref()
    }

    /// An emergency of one patient needs no relationship with them; it is looked into afterwards.
    fn is_emergency_of(&self, permit: &Permit, patient: &str) -> bool {
        is_emergency(permit, patient)
            && (self.rules().free_in_emergency()).contains(&permit.agent.role)
    }

    /// Whether something is hidden from somebody for want of a relationship with a patient.
    pub(super) async fn is_unrelated(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        hidden: &mut Hidden,
    ) -> Result<bool, TrustError> {
        let asks = self.rules().relationships().asks(permit.agent.role);
        Ok(asks.needed
            && !self.is_emergency_of(permit, patient)
            && self
                .relation(view, permit, patient, hidden)
                .await?
                .is_none())
    }

    /// What the audit tells of an access, read by the rules in force.
    #[must_use]
    pub fn relation_told(&self, told: &str) -> Relation {
        match told {
            NONE => return Relation::None,
            UNKNOWN => return Relation::Unknown,
            EMERGENCY => return Relation::Emergency,
            _ => {}
        }
        // The name, and the resource that says so.
        let name = told.rsplit_once(' ').map_or(told, |(name, _)| name);
        let words = match name {
            REGISTRATION => Some(REGISTRATION_WORDS),
            _ => self.rules().relationships().words(name),
        };
        Relation::By(words.unwrap_or(name).to_owned())
    }

    /// What makes a relationship by the rules in force, by its names.
    pub fn relations_known(&self) -> impl Iterator<Item = &str> {
        self.rules().relationships().names()
    }

    /// Why something is kept from somebody for want of a relationship with a patient; nothing where they have one,
    /// or need none.
    pub(crate) async fn wants_relation(
        &self,
        permit: &Permit,
        patient: &str,
    ) -> Result<Option<String>, TrustError> {
        let view = self.ledger().view()?;
        let mut hidden = Hidden::default();
        let is_unrelated = self
            .is_unrelated(&view, permit, patient, &mut hidden)
            .await?;
        Ok(is_unrelated.then(|| self.rules().relationships().denied().to_owned()))
    }

    /// Puts into a record what explains the access to each of its patients, where the rules have it told.
    pub(super) async fn tell_relations(
        &self,
        permit: &Permit,
        record: &mut Record<'_>,
    ) -> Result<(), LedgerError> {
        let asks = self.rules().relationships().asks(permit.agent.role);
        if !asks.told || record.patients.is_empty() {
            return Ok(());
        }
        let view = self.ledger().view()?;
        let mut hidden = Hidden::default();
        if record.patients.len() > MANY {
            // Of many patients it is told where that costs no more than to look at those of one person.
            match self.all_relations(&view, permit, &mut hidden).await {
                Ok(Some(all)) => hidden.related = Some(Some(all)),
                Ok(None) | Err(_) => return Ok(()),
            }
        }
        let mut told = BTreeMap::new();
        for patient in &record.patients {
            // What can't be told now must not keep an answer back that nothing else does.
            let found = match self.relation(&view, permit, patient, &mut hidden).await {
                Ok(Some(found)) => found,
                Ok(None) if is_emergency(permit, patient) => EMERGENCY.to_owned(),
                Ok(None) => match record.reasons.get(patient) {
                    Some(reason) => reason.clone(),
                    None => match self.work(&view, permit, patient, record).await {
                        Ok(Some(reason)) => reason,
                        Ok(None) => NONE.to_owned(),
                        Err(_) => UNKNOWN.to_owned(),
                    },
                },
                Err(_) => UNKNOWN.to_owned(),
            };
            told.insert(patient.clone(), found);
        }
        record.relations = told;
        Ok(())
    }

    /// What of somebody's work explains an access that no relationship does, if something is: a task that they
    /// have claimed or ended, or one that waits for their role, where nothing was seen of the patient but what
    /// a list of work shows.
    async fn work(
        &self,
        view: &View,
        permit: &Permit,
        patient: &str,
        record: &Record<'_>,
    ) -> Result<Option<String>, TrustError> {
        let Some(worklist) = self.rules().relationships().worklist() else {
            return Ok(None);
        };
        // Listed as unexplained then: somebody looks into one too many rather than one too few.
        if record.patients.len() > WORK_PATIENTS_MAX {
            return Ok(None);
        }
        let Some(query) = worklist.query(patient) else {
            return Ok(None);
        };
        let tenant = permit.tenant();
        let now_ms = i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let is_list = list_alone(record, |kind| worklist.shows(kind)).contains(patient);
        let plan = tokens::plan(self.ledger(), tenant, &query, None);
        // The newest count: older ones don't bring anybody to a record now.
        let hits = view
            .search(tenant, &plan.query, None, None, AT_ONCE)
            .await?;
        let mut waits = None;
        for hit in hits {
            let Some(task) = self.counting(view, (tenant, hit), &query).await? else {
                continue;
            };
            if !query.matches(&task) {
                continue;
            }
            match worklist.work(&task, &permit.agent, now_ms) {
                Some(Work::Own) => return Ok(Some(worklist.told(Work::Own, &task))),
                Some(Work::Queue) if is_list && waits.is_none() => {
                    waits = Some(worklist.told(Work::Queue, &task));
                }
                _ => {}
            }
        }
        Ok(waits)
    }

    /// The tasks among the rows of an answer that explain it by themselves, of each patient of whom nothing else
    /// is shown.
    pub(super) fn work_among<'r>(
        &self,
        permit: &Permit,
        rows: impl Iterator<Item = &'r Versioned>,
        record: &mut Record<'_>,
    ) {
        let relationships = self.rules().relationships();
        let Some(worklist) = relationships.worklist() else {
            return;
        };
        if !relationships.asks(permit.agent.role).told {
            return;
        }
        let now_ms = i64::try_from(self.ledger().clock().now_ms()).unwrap_or(i64::MAX);
        let mut reasons = BTreeMap::new();
        let of_list = list_alone(record, |kind| worklist.shows(kind));
        for row in rows.filter(|row| row.resource.kind() == ResourceType::Task) {
            // What is passed on as text isn't there to be looked at, and is looked for.
            let Some(work) = worklist.work(&row.resource, &permit.agent, now_ms) else {
                continue;
            };
            let [patient] = row.resource.patients()[..] else {
                continue;
            };
            if work == Work::Own || of_list.contains(patient) {
                let told = worklist.told(work, &row.resource);
                reasons.entry(patient.to_owned()).or_insert(told);
            }
        }
        record.reasons.append(&mut reasons);
    }

    /// Says of patients who are written down anew that this is why.
    pub(super) fn tell_registrations(record: &mut Record<'_>) {
        for touched in &record.resources {
            if touched.kind == ResourceType::Patient && touched.version == Some(1) {
                let told = format!("{REGISTRATION} Patient/{}", touched.id);
                record.reasons.insert(touched.id.clone(), told);
            }
        }
    }
}

/// The patients of whom something was seen, and nothing of a type that a list of work doesn't show.
fn list_alone<'r>(
    record: &'r Record<'_>,
    shows: impl Fn(ResourceType) -> bool,
) -> HashSet<&'r str> {
    let whose = |touched: &'r Touched| match touched.kind {
        ResourceType::Patient => Some(touched.id.as_str()),
        _ => touched.patient.as_deref(),
    };
    let (listed, others): (Vec<&Touched>, Vec<&Touched>) = record
        .resources
        .iter()
        .partition(|touched| shows(touched.kind));
    let others: HashSet<&str> = others.into_iter().filter_map(whose).collect();
    let mut alone: HashSet<&str> = listed.into_iter().filter_map(whose).collect();
    alone.retain(|patient| !others.contains(patient));
    alone
}

/// Whether something is asked in an emergency of one patient, whose access stands.
fn is_emergency(permit: &Permit, patient: &str) -> bool {
    permit.purpose == Purpose::Emergency && permit.only_patient() == Some(patient)
}
