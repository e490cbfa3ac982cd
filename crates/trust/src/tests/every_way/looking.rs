//! The ways in which rows come out, each against what reading one by one gives.
use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::AtomicUsize;

use fhir::search::{Compartment, Owns, Scope};
use ledger::Number;
use proptest::prelude::*;

use super::*;
use crate::tests::linked;
use crate::{AskedAbout, ExportJob, ExportOf, PastQuery, Question, SortedAt};

/// What one asker is shown in one world, and what they are to be shown.
pub(super) struct Look<'a> {
    pub(super) trust: &'a Trust,
    pub(super) world: &'a World,
    /// Who asks; and the same with all scopes.
    pub(super) agent: Agent,
    pub(super) plain: Agent,
    /// What is there.
    pub(super) model: &'a Model,
    /// Whether somebody who acts for a patient does so under the rule pack.
    pub(super) stands: bool,
    /// What reading one by one shows whom no scope narrows, newest first.
    pub(super) seen: Vec<Versioned>,
    /// The same by name, as it is told.
    pub(super) told: BTreeMap<String, Vec<u8>>,
}

impl<'a> Look<'a> {
    pub(super) fn new(trust: &'a Trust, world: &'a World, made: &Made, model: &'a Model) -> Self {
        let is_proxy = world.asker.who.0 == Role::Proxy;
        let signed_in = world.setting.signed_in();
        let signed = |agent: &Agent| Agent {
            signed_in,
            ..agent.clone()
        };
        Self {
            trust,
            world,
            agent: signed(&made.agent),
            plain: signed(&made.plain),
            model,
            stands: !is_proxy || trust.vault().rules().proxies().is_some(),
            seen: Vec::new(),
            told: BTreeMap::new(),
        }
    }
}

pub(super) type Checked = Result<usize, TestCaseError>;

/// Rows that were told, by name.
type Told = BTreeMap<String, Vec<u8>>;

/// Whether something is marked as ordinary, and as nothing else.
fn is_ordinary(row: &Resource) -> bool {
    let row = row.clone().into_value();
    let marks = row["meta"]["security"].as_array().into_iter().flatten();
    let levels: Vec<&Value> = marks
        .filter(|mark| mark["system"] == "http://terminology.hl7.org/CodeSystem/v3-Confidentiality")
        .map(|mark| &mark["code"])
        .collect();
    levels == ["N"]
}

fn name(row: &Versioned) -> String {
    row.resource.reference().unwrap().to_string()
}

impl Look<'_> {
    async fn permit_for(
        &self,
        action: Action,
        patient: Option<&str>,
    ) -> Result<Permit, TrustError> {
        let target = Target {
            kind: None,
            patient: patient.map(str::to_owned),
        };
        let (_, purpose) = self.world.asker.who;
        (self.trust)
            .decide(&self.agent, purpose, action, target, "r")
            .await
    }
    async fn permit(&self, action: Action) -> Result<Permit, TrustError> {
        self.permit_for(action, None).await
    }
    fn token(&self) -> Option<&Token> {
        self.world.asker.token.as_ref()
    }
    /// What policies say.
    fn policy(&self, action: Action, kind: ResourceType) -> bool {
        let World {
            grants,
            asker,
            setting,
            ..
        } = self.world;
        let mut grants = grants.iter();
        grants.any(|grant| grant.gives(asker.who, setting, action, kind))
    }
    /// Whether the application may be used at all.
    fn is_usable(&self) -> bool {
        let World { hides, asker, .. } = self.world;
        let who = asker.who;
        let Some(token) = self.token() else {
            return self.stands;
        };
        let kind = ResourceType::Observation;
        let tells = token.has_category()
            && (hides.iter()).any(|rule| rule.is_for(who, kind) && rule.hides("category"));
        self.stands && who.0 != Role::Proxy && !tells
    }
    pub(super) fn may(&self, action: Action, kind: ResourceType) -> bool {
        let letter = if action == Action::Search { 's' } else { 'r' };
        self.policy(action, kind) && self.token().is_none_or(|token| token.lets(letter, kind))
    }
    /// Whether there is a permit.
    pub(super) fn begins(&self, action: Action) -> bool {
        let letter = if action == Action::Search { 's' } else { 'r' };
        self.is_usable()
            && KINDS.iter().any(|kind| self.policy(action, *kind))
            && self.token().is_none_or(|token| token.begins(letter))
    }
    pub(super) fn would_tell(&self, query: &SearchQuery) -> bool {
        elements::would_tell(&self.world.hides, self.world.asker.who, query)
    }
    /// What lists show, newest first: what is read one by one, and in the scopes.
    fn listed(&self) -> impl Iterator<Item = &Versioned> {
        let covered = |row: &&Versioned| match self.token() {
            None => true,
            Some(token) => token.covers('s', &row.resource),
        };
        self.seen.iter().filter(covered)
    }
    fn listed_of(&self, kind: ResourceType) -> impl Iterator<Item = &Versioned> {
        self.listed().filter(move |row| row.resource.kind() == kind)
    }
    /// Rows as they are to be told.
    fn as_told<'r>(&self, rows: impl IntoIterator<Item = &'r Versioned>) -> Told {
        let rows = rows.into_iter().map(name);
        rows.map(|name| (name.clone(), self.told[&name].clone()))
            .collect()
    }
    /// What a list gave is what reading gives, in all of its parts.
    fn are_as_read(&self, rows: &[Versioned]) -> Result<(), TestCaseError> {
        for row in rows {
            let read = self.told.get(&name(row));
            let read = read.map(|json| String::from_utf8_lossy(json));
            let listed = row.json();
            prop_assert_eq!(Some(String::from_utf8_lossy(&listed)), read);
        }
        Ok(())
    }
    /// Each live row by itself, and whether policies, compartments and rules about elements are followed.
    pub(super) async fn read_all(&mut self) -> Checked {
        let (role, purpose) = self.world.asker.who;
        let any = self.stands && KINDS.iter().any(|kind| self.policy(Action::Read, *kind));
        let permit = (self.trust)
            .decide(&self.plain, purpose, Action::Read, Target::default(), "r")
            .await;
        prop_assert_eq!(permit.is_ok(), any);
        let Ok(permit) = permit else { return Ok(0) };
        for ((kind, id), (_, whole)) in self.model {
            match self.trust.vault().read(&permit, *kind, id).await {
                Ok(row) => {
                    prop_assert!(self.policy(Action::Read, *kind), "{}", kind);
                    if let Some(row) = &row {
                        self.is_cut(row, whole)?;
                        self.is_for_a_parent(whole)?;
                    }
                    self.seen.extend(row);
                }
                Err(TrustError::Refused(_)) => prop_assert!(!self.policy(Action::Read, *kind)),
                Err(error) => panic!("{error}"),
            }
        }
        if role.has_one_record() {
            let own = Some(self.world.asker.patient.as_str());
            let mut rows = self.seen.iter().map(|row| &row.resource);
            let other =
                rows.find(|row| row.patient() != own && row.kind() != ResourceType::Organization);
            prop_assert!(other.is_none(), "{:?}", other.map(Resource::to_json));
        }
        self.seen
            .sort_by_key(|row| std::cmp::Reverse(row.at.number));
        for row in &self.seen {
            self.told.insert(name(row), row.json().into_owned());
        }
        Ok(self.seen.len())
    }
    /// What is shown of a row is what was written without what a rule hides.
    fn is_cut(&self, row: &Versioned, whole: &Resource) -> Result<(), TestCaseError> {
        let World { hides, asker, .. } = self.world;
        let mut rules = hides.iter();
        let rule = rules.find(|rule| rule.is_for(asker.who, whole.kind()));
        let is_marked = fhir::subset::is_subsetted(&row.resource);
        prop_assert_eq!(is_marked, rule.is_some(), "{}", name(row));
        let (mut shown, mut left) = (
            row.resource.clone().into_value(),
            whole.clone().into_value(),
        );
        for value in [&mut shown, &mut left] {
            // Numbers, times and marks.
            value.as_object_mut().unwrap().remove("meta");
        }
        if let Some(rule) = rule {
            rule.unmask(&mut shown);
            rule.cut(&mut left);
        }
        prop_assert_eq!(shown, left, "{:?}", rule);
        Ok(())
    }
    /// What parents of older children are shown of them is marked as ordinary, whatever else is so.
    fn is_for_a_parent(&self, whole: &Resource) -> Result<(), TestCaseError> {
        let Asker { who, is_child, .. } = &self.world.asker;
        let is_of_a_patient = whole.kind() != ResourceType::Patient && whole.patient().is_some();
        if who.0 == Role::Proxy && *is_child && is_of_a_patient {
            prop_assert!(is_ordinary(whole), "{:?}", whole.to_json());
        }
        Ok(())
    }
    /// How many rows are shown that would not be without their mark.
    pub(super) fn marked_for_parents(&self) -> usize {
        let Asker { who, is_child, .. } = &self.world.asker;
        let is_parent = who.0 == Role::Proxy && *is_child;
        let marked = self.seen.iter().filter(|row| is_ordinary(&row.resource));
        if is_parent { marked.count() } else { 0 }
    }
    /// Each live row by itself, through the application.
    pub(super) async fn read_through(&self) -> Checked {
        let Some(token) = self.token() else {
            return Ok(0);
        };
        let permit = self.permit(Action::Read).await;
        prop_assert_eq!(permit.is_ok(), self.begins(Action::Read));
        let Ok(permit) = permit else { return Ok(0) };
        let mut given = 0;
        for ((kind, id), (_, whole)) in self.model {
            match self.trust.vault().read(&permit, *kind, id).await {
                Ok(row) => {
                    prop_assert!(self.may(Action::Read, *kind), "{}", kind);
                    let is_shown = self.told.contains_key(&format!("{kind}/{id}"));
                    let expected = is_shown && token.covers('r', whole);
                    prop_assert_eq!(row.is_some(), expected, "{}/{}", kind, id);
                    given += usize::from(expected);
                    self.are_as_read(row.as_slice())?;
                }
                Err(TrustError::Refused(_)) => prop_assert!(!self.may(Action::Read, *kind)),
                Err(error) => panic!("{error}"),
            }
        }
        Ok(given)
    }
    /// The explanation of each row says what reading it does.
    pub(super) async fn explained(&self) -> Checked {
        let officer = Agent {
            id: "officer".to_owned(),
            role: Role::PrivacyOfficer,
            patient: None,
            access: None,
            ..self.plain.clone()
        };
        let target = Target::default();
        let by = self
            .trust
            .decide(&officer, Purpose::Operations, Action::Audit, target, "r")
            .await
            .unwrap();
        for (kind, id) in self.model.keys() {
            let (role, purpose) = self.world.asker.who;
            let question = Question {
                role,
                part: None,
                purpose,
                action: Action::Read,
                kind: Some(*kind),
                own: role.has_one_record(),
                around: self.world.setting.around(),
            };
            let about = AskedAbout {
                person: Some(&self.plain.id),
                row: Some(id),
                scopes: None,
            };
            let told = self.trust.explain(&by, &question, &about).await.unwrap();
            let is_shown = self.told.contains_key(&format!("{kind}/{id}"));
            prop_assert_eq!(told.permitted(), is_shown, "{:?} {:?}", question, told);
            let why = told.row.unwrap();
            let denied = why.consents.iter().any(|one| !one.permitted) || why.barred.is_some();
            prop_assert_eq!(denied, !why.permitted, "{:?}", why);
        }
        Ok(self.model.len())
    }
    /// The names of what a search finds.
    pub(super) fn expected(&self, query: &SearchQuery) -> Vec<String> {
        self.listed_of(query.kind)
            .filter(|row| {
                query.matches(&row.resource)
                    && crate::tokens::last_updated_matches(query, row.at.number)
            })
            .map(name)
            .collect()
    }
    /// Whether a search is answered, or refused just when it has to be.
    fn is_answered<T>(
        &self,
        page: Result<T, TrustError>,
        query: &SearchQuery,
        is_allowed: bool,
    ) -> Result<Option<T>, TestCaseError> {
        let is_expected = is_allowed && !self.would_tell(query);
        match page {
            Ok(page) => {
                prop_assert!(is_expected, "{:?} is answered", query.used);
                Ok(Some(page))
            }
            Err(TrustError::Refused(no)) => {
                prop_assert!(!is_expected, "{:?}: {}", query.used, no.reason);
                Ok(None)
            }
            Err(error) => panic!("{error}"),
        }
    }
    /// The permit to search, if there is to be one.
    async fn searching(&self) -> Result<Option<Permit>, TestCaseError> {
        let permit = self.permit(Action::Search).await;
        prop_assert_eq!(permit.is_ok(), self.begins(Action::Search));
        Ok(permit.ok())
    }
    /// All pages of a search, newest first, with totals and as texts.
    async fn pages(
        &self,
        permit: &Permit,
        asked: &SearchQuery,
        expected: &dyn Fn() -> Vec<String>,
    ) -> Result<Option<Vec<String>>, TestCaseError> {
        let vault = self.trust.vault();
        let is_allowed = self.may(Action::Search, asked.kind)
            && linked::may_follow(&|kind| self.may(Action::Search, kind), asked);
        let (mut found, mut before) = (Vec::new(), None);
        loop {
            let page = vault.search(permit, asked, before).await;
            let Some(page) = self.is_answered(page, asked, is_allowed)? else {
                return Ok(None);
            };
            let expected = expected();
            prop_assert_eq!(page.total, Some(expected.len()), "{:?}", &asked.used);
            texts_are_the_rows(vault, (permit, asked), before, &page).await;
            self.are_as_read(&page.rows)?;
            found.extend(page.rows.iter().map(name));
            before = page.next;
            if before.is_none() {
                prop_assert_eq!(&found, &expected, "{:?}", &asked.used);
                return Ok(Some(found));
            }
        }
    }
    /// A list page by page, newest first and by id, with totals.
    pub(super) async fn search(&self, ask: &Ask) -> Checked {
        let Some(permit) = self.searching().await? else {
            return Ok(0);
        };
        let asked = ask.query(&[]);
        let expected = || self.expected(&asked);
        let Some(mut newest_first) = self.pages(&permit, &asked, &expected).await? else {
            return Ok(0);
        };
        let sorted = ask.query(&[("_sort", "_id")]);
        let (mut found, mut at) = (Vec::new(), None);
        loop {
            let page = self.trust.vault().search_sorted(&permit, &sorted, at);
            let page = page.await.unwrap();
            prop_assert_eq!(page.total, Some(newest_first.len()));
            self.are_as_read(&page.rows)?;
            found.extend(page.rows.iter().map(name));
            let Some(last) = page.rows.last().filter(|_| page.next.is_some()) else {
                break;
            };
            let first = at.map_or(page.as_of, |at: SortedAt| at.first);
            at = Some(SortedAt {
                last: last.at,
                first,
            });
        }
        newest_first.sort_unstable();
        prop_assert_eq!(&found, &newest_first);
        Ok(found.len())
    }
    /// What is found through other resources, by following each link by hand among what is listed.
    pub(super) async fn linked(&self, ask: &Ask) -> Checked {
        let Some(permit) = self.searching().await? else {
            return Ok(0);
        };
        let asked = ask.query(&[]);
        let searched = self
            .listed()
            .filter(|row| self.may(Action::Search, row.resource.kind()));
        let seen: linked::Seen<'_> = searched
            .map(|row| {
                let resource = &row.resource;
                let id = resource.id().unwrap().to_owned();
                ((resource.kind(), id), (row.at.number, resource))
            })
            .collect();
        let expected = || {
            let rows = self.listed_of(asked.kind);
            rows.filter(|row| linked::matches(&asked, &seen, row.at.number, &row.resource))
                .map(name)
                .collect()
        };
        let found = self.pages(&permit, &asked, &expected).await?;
        Ok(found.map_or(0, |found| found.len()))
    }
    /// What comes beside patients, and beside observations.
    pub(super) async fn included(&self) -> Checked {
        let Some(permit) = self.searching().await? else {
            return Ok(0);
        };
        let mut given = 0;
        for (kind, (way, value), other) in [
            (
                ResourceType::Patient,
                ("_revinclude", "Observation:patient"),
                ResourceType::Observation,
            ),
            (
                ResourceType::Patient,
                ("_revinclude", "Claim:patient"),
                ResourceType::Claim,
            ),
            (
                ResourceType::Observation,
                ("_include", "Observation:encounter"),
                ResourceType::Encounter,
            ),
            (
                ResourceType::Condition,
                ("_include", "Condition:patient"),
                ResourceType::Patient,
            ),
        ] {
            let asked = query(kind, &[(way, value), ("_count", "1000")]);
            let page = self.trust.vault().search(&permit, &asked, None).await;
            // What refers is searched for; what is referred to is read.
            let is_back = way == "_revinclude";
            let is_named = !is_back || self.may(Action::Search, other);
            let is_allowed = self.may(Action::Search, kind) && is_named;
            let Some(page) = self.is_answered(page, &asked, is_allowed)? else {
                continue;
            };
            let refers = |from: &Versioned, to: &Versioned| {
                let wanted = name(to);
                let mut refers = false;
                from.resource
                    .each_reference(&mut |text| refers |= text == wanted);
                refers
            };
            let beside = self.listed_of(other).filter(|row| {
                (is_back || self.may(Action::Read, other))
                    && self
                        .listed_of(kind)
                        .any(|one| refers(one, row) || refers(row, one))
            });
            let expected: BTreeSet<String> = beside.map(name).collect();
            let found: BTreeSet<String> = page.included.iter().map(name).collect();
            prop_assert_eq!(&found, &expected, "{}={}", way, value);
            self.are_as_read(&page.included)?;
            given += found.len();
        }
        Ok(given)
    }
    /// The whole of two patients, and their compartment, page by page: of who asks, if they have a record, and of
    /// somebody else.
    pub(super) async fn of_patients(&self) -> Checked {
        let (mut given, count) = (0, 2 + self.world.asks[0].count);
        let own = self.world.asker.patient.as_str();
        let other = if own == "p1" { "p2" } else { "p1" };
        for patient in [own, other] {
            let permit = self.permit_for(Action::Search, Some(patient)).await;
            let is_own = !self.world.asker.who.0.has_one_record() || own == patient;
            let only = self.token().and_then(Token::only_patient);
            let is_theirs = is_own && only.is_none_or(|only| only == patient);
            let begins = self.begins(Action::Search) && is_theirs;
            prop_assert_eq!(permit.is_ok(), begins, "{}", patient);
            let Ok(permit) = permit else { continue };
            given += self.everything(&permit, patient, count).await?;
            given += self.compartment(&permit, patient, count).await?;
        }
        Ok(given)
    }
    async fn everything(&self, permit: &Permit, patient: &str, count: usize) -> Checked {
        let kinds = KINDS.iter().filter(|kind| kind.may_be_patients());
        let queries: Vec<SearchQuery> = kinds.map(|kind| query(*kind, &[])).collect();
        let of_kind = |query: &SearchQuery| {
            self.listed_of(query.kind)
                .filter(|row| {
                    row.resource.patient() == Some(patient)
                        && self.may(Action::Search, row.resource.kind())
                })
                .map(name)
                .collect::<Vec<String>>()
        };
        let expected: Vec<String> = queries.iter().flat_map(of_kind).collect();
        let (mut found, mut at) = (Vec::new(), None);
        loop {
            let page = self.trust.vault().series(permit, &queries, at, count, &[]);
            let page = page.await.unwrap();
            self.are_as_read(&page.rows)?;
            found.extend(page.rows.iter().map(name));
            at = page.next;
            if at.is_none() {
                break;
            }
        }
        prop_assert_eq!(&found, &expected, "everything of {}", patient);
        Ok(found.len())
    }
    async fn compartment(&self, permit: &Permit, patient: &str, count: usize) -> Checked {
        let kinds = [
            ResourceType::Observation,
            ResourceType::Condition,
            ResourceType::Encounter,
            ResourceType::Claim,
            ResourceType::Consent,
        ];
        let compartment = Compartment::of(ResourceType::Patient, patient).unwrap();
        let scope = Scope::Compartment(compartment, None);
        let parameters = [("_count".to_owned(), count.to_string())];
        let queries =
            SearchQuery::parse_scope_with(&scope, &kinds, &parameters, false, &Owns::default())
                .unwrap();
        let rows = self.listed().filter(|row| {
            let kind = row.resource.kind();
            kinds.contains(&kind)
                && self.may(Action::Search, kind)
                && row.resource.patient() == Some(patient)
        });
        let expected: Vec<String> = rows.map(name).collect();
        let is_any = kinds.iter().any(|kind| self.may(Action::Search, *kind));
        let (mut found, mut at) = (Vec::new(), None);
        loop {
            let page = self.trust.vault().search_types(permit, &queries, false, at);
            let page = match page.await {
                Err(TrustError::Refused(no)) => {
                    prop_assert!(!is_any, "{}", no.reason);
                    return Ok(0);
                }
                page => page.unwrap(),
            };
            prop_assert!(is_any);
            self.are_as_read(&page.rows)?;
            found.extend(page.rows.iter().map(name));
            let Some(before) = page.next else { break };
            let first = at.map_or(page.as_of, |at: PageAt| at.first);
            at = Some(PageAt { before, first });
        }
        prop_assert_eq!(&found, &expected, "compartment of {}", patient);
        Ok(found.len())
    }
    /// Versions: none that reading that version would not show, and all that are there now.
    pub(super) async fn past(&self) -> Checked {
        let permit = self.permit(Action::History).await;
        prop_assert_eq!(permit.is_ok(), self.begins(Action::History));
        let Ok(permit) = permit else { return Ok(0) };
        let (_, purpose) = self.world.asker.who;
        let read = (self.trust)
            .decide(&self.plain, purpose, Action::Read, Target::default(), "r")
            .await
            .unwrap();
        let asked = PastQuery {
            kind: None,
            since: Number(0),
            during: None,
            count: 1000,
            words: "_history".to_owned(),
        };
        let vault = self.trust.vault();
        let page = vault.past(&permit, &asked, None).await.unwrap();
        let mut newest = BTreeSet::new();
        for row in page
            .rows
            .iter()
            .map(|past| &past.row)
            .filter(|row| !row.deleted)
        {
            let (kind, id) = (row.resource.kind(), row.resource.id().unwrap());
            prop_assert!(self.may(Action::History, kind));
            let shown = vault.read_version(&read, kind, id, row.version).await;
            let shown = shown.unwrap().map(|shown| shown.json().into_owned());
            prop_assert_eq!(shown, Some(row.json().into_owned()), "{} {}", kind, id);
            let token = self.token();
            prop_assert!(token.is_none_or(|token| token.covers('s', &row.resource)));
            newest.insert((name(row), row.version));
        }
        let mut now = self.listed();
        let missing = now.find(|row| {
            self.may(Action::History, row.resource.kind())
                && !newest.contains(&(name(row), row.version))
        });
        prop_assert!(missing.is_none(), "{:?}", missing.map(name));
        Ok(newest.len())
    }
    /// All files of an export of everything.
    pub(super) async fn exported(&self, number: u32) -> Checked {
        let permit = self.permit(Action::Export).await;
        let may = STAFF.contains(&self.world.asker.who.0)
            && self.is_usable()
            && self.token().is_none_or(Token::exports);
        prop_assert_eq!(permit.is_ok(), may);
        let Ok(permit) = permit else { return Ok(0) };
        let shows = |kind: &&ResourceType| {
            self.may(Action::Read, **kind)
                && self.token().is_none_or(|token| token.lets('s', **kind))
        };
        let kinds = KINDS.iter().filter(shows);
        let kinds: Vec<String> = kinds.map(|kind| kind.name().to_owned()).collect();
        if kinds.is_empty() {
            return Ok(0);
        }
        let job = ExportJob {
            caller: permit.agent().id.clone(),
            purpose: permit.purpose(),
            request: "x".to_owned(),
            kinds,
            of: ExportOf::System,
            since: None,
            elements: Vec::new(),
            filters: Vec::new(),
            ignored: Vec::new(),
            expires_ms: u64::MAX,
            layout: None,
        };
        let vault = self.trust.vault();
        let id = format!("job{number}");
        vault.keep_export(&permit, &id, &job).await.unwrap();
        let progress = AtomicUsize::new(0);
        let tenant = permit.tenant();
        vault.lay_out_export(tenant, &id, &progress).await.unwrap();
        let found = vault.export_job(&permit, &id, 0).await.unwrap().unwrap();
        let mut rows = Told::new();
        for file in 0..found.job.layout.as_ref().unwrap().files.len() {
            let reading = vault.export_file(&permit, &found, file, Vec::new(), None);
            let mut reading = reading.await.unwrap();
            while let Some(lines) = reading.next().await.unwrap() {
                for line in lines
                    .split(|byte| *byte == b'\n')
                    .filter(|line| !line.is_empty())
                {
                    let row = Resource::parse(line).unwrap();
                    let name = row.reference().unwrap().to_string();
                    prop_assert!(rows.insert(name, line.to_vec()).is_none());
                }
            }
        }
        // What is taken away is read as well as found.
        let is_read = |row: &Resource| self.token().is_none_or(|token| token.covers('r', row));
        let of_kinds = self
            .listed()
            .filter(|row| shows(&&row.resource.kind()) && is_read(&row.resource));
        let expected = self.as_told(of_kinds);
        let names = |told: &Told| told.keys().cloned().collect::<Vec<_>>();
        prop_assert_eq!(names(&rows), names(&expected));
        prop_assert!(
            rows == expected,
            "rows of an export are other than when they are read"
        );
        Ok(rows.len())
    }
}
