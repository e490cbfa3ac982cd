//! The cases, read from the store: for an analysis, and for a log that leaves the house.
//!
//! They are read one page after the other as they all were at one moment, so nobody who moves meanwhile is missed or
//! told twice, and no more than a page is in memory. Whose consents don't allow it is left out and counted.

use super::case::Case;
use super::costs::CostSums;
use super::log::{LogSink, Pseudonyms};
use super::net::Net;
use super::outcomes::{self, DAYS_OF};
use super::report::Report;
use super::split::{Groups, UNKNOWN};
use super::sums::Sums;
use crate::books::old_trail;
use crate::definition::Definition;
use crate::mover::{self, MoveError};
use crate::segments::Known;
use crate::service::{refused, staff};
use crate::state::State;
use crate::{JourneyError, Journeys};
use fhir::{Resource, ResourceType};
use ledger::{Expected, Kind, LedgerError, Owner, TenantId};
use serde::{Deserialize, Serialize};
use std::collections::{BTreeSet, HashMap};
use std::sync::{Mutex, MutexGuard, PoisonError};
use std::time::Duration;
use trust::consent::Deprivation;
use trust::conventions::INSTANCE_SYSTEM;
use trust::{Action, Internal, Permit, Purpose, TrustError, Unit, kinds};

/// Kind of the documents that hold the newest analysis of each version.
const ANALYSIS: Kind = Kind(1115);
/// How it is written. One of another format is none, until it is made anew: of the first ones, what is of few people
/// could be made from what they tell.
const FORMAT: u32 = 2;

/// How long others go first after each page.
const PAUSE: Duration = Duration::from_millis(100);

/// What is being analysed, one version of a tenant's at a time, and one tenant at a time.
#[derive(Debug)]
pub(crate) struct Analysing {
    now: Mutex<HashMap<TenantId, (String, u32)>>,
    turn: tokio::sync::Semaphore,
}

impl Default for Analysing {
    fn default() -> Self {
        Self {
            now: Mutex::default(),
            turn: tokio::sync::Semaphore::new(1),
        }
    }
}

impl Analysing {
    fn now(&self) -> MutexGuard<'_, HashMap<TenantId, (String, u32)>> {
        self.now.lock().unwrap_or_else(PoisonError::into_inner)
    }
}

/// An analysis that was made and kept.
#[derive(Debug, Clone, PartialEq, Serialize, Deserialize)]
pub struct Kept {
    format: u32,
    /// What came of it.
    pub report: Report,
}

/// Which log.
#[derive(Debug)]
pub struct LogOf<'a> {
    /// The journey.
    pub journey: &'a str,
    /// Its cases on this version only.
    pub version: Option<u32>,
    /// What makes the pseudonyms.
    pub pseudonyms: &'a Pseudonyms,
}

/// What went into a log.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub struct Exported {
    /// Cases.
    pub cases: u64,
    /// Journeys that were left out, because the patient's consents don't allow what the log is for.
    pub left_out: u64,
    /// Journeys that this program can't read.
    pub unreadable: u64,
}

/// What is told of each case that is read.
struct Found {
    instance: String,
    patient: String,
    case: Case,
    state: State,
}

impl Journeys {
    /// Analyses a version (`None`: the live one), and observes patients for so many days for what came of them. Nobody
    /// is named in what comes of it, and patients whose consents don't allow it are left out and counted. It reads every
    /// journey of that version.
    ///
    /// # Errors
    /// `Unknown`, `Trust`, `Broken`; `Cannot` where nobody can be observed for so many days.
    pub async fn analyse(
        &self,
        permit: &Permit,
        name: &str,
        version: Option<u32>,
        days: u64,
    ) -> Result<Report, JourneyError> {
        may_observe(permit)?;
        are_days(days)?;
        let tenant = permit.tenant();
        let books = self.books(tenant).await?;
        let published = Self::published(&books, name, version)?;
        let definition = &published.definition;
        let (name, version) = (&published.stored.name, published.stored.version);
        let kinds = outcomes::kinds(definition);
        let mut read: Vec<&str> = kinds.iter().map(|kind| kind.name()).collect();
        read.push(ResourceType::Communication.name());
        read.sort_unstable();
        read.dedup();
        let note = format!(
            "{name}, version {version}: analysed, reading Consent, Patient, {} of each patient in it",
            read.join(", ")
        );
        self.vault()
            .record_look(permit, BTreeSet::new(), &note)
            .await?;
        let analyst = self.analyst_permit(tenant).await?;
        let engine = self.engine_permit(tenant).await?;
        let mut sums = Sums::new(published.definition.clone(), self.now_ms());
        let of = (name.as_str(), Some(version));
        let mut act = self.use_of(definition, &analyst).await?;
        // It looks at more than the journey goes by.
        act.about.extend(&kinds);
        act.about.sort_unstable();
        act.about.dedup();
        let mut pages = Pages::of(self, &engine, of, act)?;
        let mut costs = CostSums::new(definition.zone.clone());
        while let Some(page) = pages.next(self, &engine).await? {
            for found in page {
                self.add_costs(&engine, &found, &mut costs).await?;
                let known = self.known(&engine, &found.patient, &kinds).await?;
                let deprivation = self.vault().rules().deprivation();
                let groups = groups(known.person.as_ref(), found.case.started_ms, deprivation);
                let (definition, now_ms) = (definition.clone(), sums.now_ms());
                // A long record takes its time.
                let came = tokio::task::spawn_blocking(move || {
                    let Found { state, .. } = &found;
                    let outcomes = outcomes::outcomes(&definition, state, &known, days, now_ms);
                    (found, outcomes)
                });
                let came = came.await;
                let (mut found, outcomes) =
                    came.map_err(|error| JourneyError::Broken(error.to_string()))?;
                found.case.outcomes = outcomes;
                sums.add(&found.case, &found.patient, &groups);
            }
            // Others go first.
            tokio::time::sleep(PAUSE).await;
        }
        let (left_out, unreadable) = (pages.left_out, pages.unreadable);
        let definition = definition.clone();
        let report = tokio::task::spawn_blocking(move || Report {
            costs: Some(costs.report(&definition)),
            ..sums.report()
        });
        let report = report.await;
        let report = report.map_err(|error| JourneyError::Broken(error.to_string()))?;
        Ok(Report {
            left_out,
            unreadable,
            days,
            ..report
        })
    }

    /// Adds what the messages of a journey cost, as they may be shown for operations to who coordinates care. Journeys of
    /// which some are kept back, and those of which one is damaged, are counted.
    async fn add_costs(
        &self,
        engine: &Permit,
        found: &Found,
        costs: &mut CostSums,
    ) -> Result<(), JourneyError> {
        let of = format!("{INSTANCE_SYSTEM}|{}", found.instance);
        let (vault, kind) = (self.vault(), ResourceType::Communication);
        let of = [("identifier", of.as_str())];
        let purpose = Purpose::Operations;
        let messages = mover::shown(vault, engine, kind, &found.patient, purpose, &of).await;
        match messages {
            Ok((messages, kept)) => {
                messages.iter().for_each(|message| costs.add(message));
                costs.kept_back += u64::from(kept);
            }
            Err(MoveError::Trust(TrustError::Damaged(_))) => costs.unreadable += 1,
            Err(other) => return Err(other.into()),
        }
        Ok(())
    }

    /// What of a patient's record tells what came of them, as it may be shown for operations to who coordinates care. What
    /// is damaged tells nothing, as what is kept back.
    async fn known(
        &self,
        engine: &Permit,
        patient: &str,
        kinds: &BTreeSet<ResourceType>,
    ) -> Result<Known, JourneyError> {
        let (vault, mut known) = (self.vault(), Known::default());
        let person = match vault.load(engine, ResourceType::Patient, patient).await {
            Err(TrustError::Damaged(_)) => None,
            person => person?.filter(|person| !person.deleted),
        };
        known.person = person.map(|person| person.resource);
        for kind in kinds {
            let purpose = Purpose::Operations;
            let shown = mover::shown(vault, engine, *kind, patient, purpose, &[]).await;
            let (rows, kept) = match shown {
                Err(MoveError::Trust(TrustError::Damaged(_))) => (Vec::new(), true),
                shown => shown?,
            };
            known.of.insert(*kind, rows);
            if kept {
                known.kept.insert(*kind);
            }
        }
        Ok(known)
    }

    /// The newest analysis of a version that was kept, and whether one is being made.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn kept_analysis(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<(Option<Report>, bool), JourneyError> {
        may_observe(permit)?;
        let tenant = permit.tenant();
        let engine = self.engine_permit(tenant).await?;
        let id = self.analysis_id(tenant, name, version);
        let stored = self.vault().internal(&engine, ANALYSIS, &id).await?;
        let kept = stored.and_then(|stored| serde_json::from_slice::<Kept>(&stored.body).ok());
        let kept = kept.filter(|kept| kept.format == FORMAT);
        let now = self.analysing().now();
        let under_way = now
            .get(&tenant)
            .is_some_and(|(journey, of)| journey == name && *of == version);
        Ok((kept.map(|kept| kept.report), under_way))
    }

    /// Has a version analysed and the analysis kept, behind the caller's back: it may take minutes. One of a tenant is
    /// made at a time.
    ///
    /// # Errors
    /// `Cannot` while another is being made, and where nobody can be observed for so many days; `Unknown`, `Trust`.
    pub async fn begin_analysis(
        &self,
        permit: Permit,
        name: &str,
        version: u32,
        days: u64,
    ) -> Result<(), JourneyError> {
        may_observe(&permit)?;
        are_days(days)?;
        let tenant = permit.tenant();
        let books = self.books(tenant).await?;
        Self::published(&books, name, Some(version))?;
        {
            let mut now = self.analysing().now();
            if let Some((journey, version)) = now.get(&tenant) {
                return Err(JourneyError::Cannot(format!(
                    "version {version} of {journey} is being analysed; begin when that is over"
                )));
            }
            now.insert(tenant, (name.to_owned(), version));
        }
        let (journeys, name) = (self.clone(), name.to_owned());
        tokio::spawn(async move {
            // Whatever becomes of it, the next one can begin.
            let _over = Over(&journeys, tenant);
            if let Err(error) = Box::pin(journeys.made(&permit, &name, version, days)).await {
                tracing::error!(journey = name, version, %error, "an analysis could not be made");
            }
        });
        Ok(())
    }

    async fn made(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
        days: u64,
    ) -> Result<(), JourneyError> {
        let turn = self.analysing().turn.acquire().await;
        let _turn = turn.map_err(|error| JourneyError::Broken(error.to_string()))?;
        let report = self.analyse(permit, name, Some(version), days).await?;
        self.keep_analysis(permit.tenant(), report).await
    }

    async fn keep_analysis(&self, tenant: TenantId, report: Report) -> Result<(), JourneyError> {
        let engine = self.engine_permit(tenant).await?;
        let id = self.analysis_id(tenant, &report.journey, report.version);
        let note = format!(
            "{}, version {}: analysis kept",
            report.journey, report.version
        );
        let kept = Kept {
            format: FORMAT,
            report,
        };
        let body = serde_json::to_vec(&kept);
        let body = body.map_err(|error| JourneyError::Broken(error.to_string()))?;
        for again in [true, false] {
            let stored = self.vault().internal(&engine, ANALYSIS, &id).await?;
            let unit = Unit {
                internals: vec![Internal {
                    kind: ANALYSIS,
                    id: id.clone(),
                    owner: Owner::Tenant,
                    expected: stored
                        .map_or(Expected::Absent, |stored| Expected::Version(stored.version)),
                    body: body.clone(),
                    deleted: false,
                    tokens: Vec::new(),
                }],
                note: Some(note.clone()),
                ..Unit::default()
            };
            match self.vault().commit(&engine, unit).await {
                Ok(_) => break,
                // Another server kept one meanwhile.
                Err(TrustError::Ledger(LedgerError::Conflict)) if again => {}
                Err(other) => return Err(other.into()),
            }
        }
        Ok(())
    }

    /// What consents are asked about: a journey's own kinds of data, for a permit's purpose.
    async fn use_of(
        &self,
        definition: &Definition,
        permit: &Permit,
    ) -> Result<trust::consent::Act, JourneyError> {
        let known_as = self.vault().programmes_known_as(permit.tenant()).await?;
        Ok(trust::consent::Act {
            purpose: permit.purpose(),
            ..definition.act(known_as)
        })
    }

    fn analysis_id(&self, tenant: TenantId, name: &str, version: u32) -> String {
        let of = format!("analysis/{name}/{version}");
        let ledger = self.vault().ledger();
        ledger.derive_id(tenant, &Owner::Tenant, &of)
    }

    /// Gives the cases of a journey to a log. The permit is one to export; every patient whose case is in the log is
    /// in the audit before it is.
    ///
    /// # Errors
    /// `Unknown`, `Trust`; `Broken` where the log can't be written.
    pub async fn export_log(
        &self,
        permit: &Permit,
        of: &LogOf<'_>,
        log: &mut (dyn LogSink + Send),
    ) -> Result<Exported, JourneyError> {
        staff(permit)?;
        if permit.action() != Action::Export {
            return Err(refused("this permit is not for taking logs away"));
        }
        let tenant = permit.tenant();
        let books = self.books(tenant).await?;
        // A journey that there is not has no cases, and nobody should take an empty log for an answer.
        let published = Self::published(&books, of.journey, of.version)?;
        let engine = self.engine_permit(tenant).await?;
        let act = self.use_of(&published.definition, permit).await?;
        let purpose = permit.purpose().code().to_owned();
        let note = format!(
            "{}: taken away for {purpose} in an event log, under a pseudonym",
            of.journey
        );
        let mut pages = Pages::of(self, &engine, (of.journey, of.version), act)?;
        let mut cases = 0;
        while let Some(page) = pages.next(self, &engine).await? {
            let patients = page.iter().map(|found| found.patient.clone()).collect();
            self.vault().record_look(permit, patients, &note).await?;
            for found in page {
                let id = of.pseudonyms.of("journey", &found.instance);
                let patient = of.pseudonyms.of("patient", &found.patient);
                log.case(&id, &patient, &found.case)
                    .map_err(|error| not_written(&error))?;
                cases += 1;
            }
        }
        log.finish().map_err(|error| not_written(&error))?;
        Ok(Exported {
            cases,
            left_out: pages.left_out,
            unreadable: pages.unreadable,
        })
    }

    /// The net of a version (`None`: the live one), and which version that is.
    ///
    /// # Errors
    /// `Unknown`, `Trust`; `Cannot` where it has none.
    pub async fn net(
        &self,
        permit: &Permit,
        name: &str,
        version: Option<u32>,
    ) -> Result<(Net, u32), JourneyError> {
        may_observe(permit)?;
        let books = self.books(permit.tenant()).await?;
        let published = Self::published(&books, name, version)?;
        let net = Net::of(&published.definition).ok_or_else(|| {
            JourneyError::Cannot("its parts lie too deep within each other for a net".to_owned())
        })?;
        Ok((net, published.stored.version))
    }
}

/// Says that an analysis is over when it goes.
struct Over<'a>(&'a Journeys, TenantId);

impl Drop for Over<'_> {
    fn drop(&mut self) {
        self.0.analysing().now().remove(&self.1);
    }
}

pub(super) fn may_observe(permit: &Permit) -> Result<(), JourneyError> {
    staff(permit)?;
    if permit.action() == Action::Observe {
        return Ok(());
    }
    Err(refused("this permit is not for how journeys go"))
}

fn are_days(days: u64) -> Result<(), JourneyError> {
    if DAYS_OF.contains(&days) {
        return Ok(());
    }
    let of = DAYS_OF.map(|days| days.to_string()).join(", ");
    let words = format!("patients are observed for {of} days, not for {days}");
    Err(JourneyError::Cannot(words))
}

fn not_written(error: &std::io::Error) -> JourneyError {
    JourneyError::Broken(format!("the log can't be written: {error}"))
}

/// The journeys of a name, or of one version of it, as they all were at one moment.
struct Pages<'a> {
    every: trust::EveryInternal<'a>,
    journey: String,
    version: Option<u32>,
    act: trust::consent::Act,
    left_out: u64,
    unreadable: u64,
}

impl<'a> Pages<'a> {
    fn of(
        journeys: &Journeys,
        engine: &'a Permit,
        (journey, version): (&str, Option<u32>),
        act: trust::consent::Act,
    ) -> Result<Self, JourneyError> {
        let kind = kinds::JOURNEY_INSTANCE;
        let vault = journeys.vault();
        let every = match version {
            Some(version) => {
                let of = format!("{journey}/{version}");
                vault.every_internal_of(engine, kind, ("version", &of))?
            }
            None => vault.every_internal_of(engine, kind, ("journey", journey))?,
        };
        Ok(Self {
            every,
            journey: journey.to_owned(),
            version,
            act,
            left_out: 0,
            unreadable: 0,
        })
    }

    /// The next page; it may be empty.
    async fn next(
        &mut self,
        journeys: &Journeys,
        engine: &Permit,
    ) -> Result<Option<Vec<Found>>, JourneyError> {
        let Some(page) = self.every.next_page().await? else {
            return Ok(None);
        };
        let vault = journeys.vault();
        let mut found = Vec::with_capacity(page.len());
        for stored in page {
            let Ok(state) = State::from_json(&stored.body) else {
                // Which journey it is of can't be told: it was found by its token.
                self.unreadable += 1;
                continue;
            };
            let of_version = self.version.is_none_or(|version| version == state.version);
            if state.journey != self.journey || !of_version {
                continue;
            }
            let kind = ResourceType::Consent;
            let consents = match mover::search(vault, engine, kind, &state.patient, &[]).await {
                // What they forbid can't be told.
                Err(MoveError::Trust(TrustError::Damaged(_))) => {
                    self.unreadable += 1;
                    continue;
                }
                consents => consents?,
            };
            let now_ms = i64::try_from(journeys.now_ms()).unwrap_or(i64::MAX);
            let decided = trust::consent::decide_use(vault.rules(), &consents, &self.act, now_ms);
            if !decided.permitted {
                self.left_out += 1;
                continue;
            }
            let old = match old_trail(vault, engine, &stored.id, &state).await {
                Ok(old) => old,
                Err(MoveError::Trust(TrustError::Damaged(_))) => {
                    self.unreadable += 1;
                    continue;
                }
                Err(other) => return Err(other.into()),
            };
            found.push(Found {
                case: Case::of(&state, &old),
                instance: stored.id,
                patient: state.patient.clone(),
                state,
            });
        }
        Ok(Some(found))
    }
}

/// Ages in years, and where the bands end.
const AGES: [(i64, &str); 5] = [
    (18, "0 to 17"),
    (40, "18 to 39"),
    (65, "40 to 64"),
    (80, "65 to 79"),
    (i64::MAX, "80 or older"),
];
const YEAR_MS: i64 = 31_556_952_000;

/// The groups in which a patient is when their journey begins; by deprivation where the organisation says where it is.
/// Of whom there is nothing to read, nothing is known.
fn groups(patient: Option<&Resource>, began_ms: u64, deprivation: Option<&Deprivation>) -> Groups {
    let Some(patient) = patient else {
        let by = ["sex", "age", "language"].into_iter();
        let by = by.chain(deprivation.map(|_| "deprivation"));
        return by.map(|by| (by.to_owned(), UNKNOWN.to_owned())).collect();
    };
    let sex = patient.text_at(&["gender"]);
    let sex = sex.filter(|sex| ["female", "male", "other"].contains(sex));
    let born = patient.text_at(&["birthDate"]).and_then(fhir::date::parse);
    let began_ms = i64::try_from(began_ms).unwrap_or(i64::MAX);
    let years = born.map(|born| began_ms.saturating_sub(born.start_ms).div_euclid(YEAR_MS));
    let age = years.map(|years| {
        let band = AGES.iter().find(|(end, _)| years < *end);
        band.map_or(UNKNOWN, |(_, words)| words)
    });
    let speaks = patient.as_value()["communication"].as_array();
    let preferred = speaks.into_iter().flatten();
    let mut preferred = preferred.filter(|one| one["preferred"] == true);
    let language = preferred
        .next()
        .or_else(|| speaks.and_then(|speaks| speaks.first()))
        .and_then(|one| one["language"]["coding"][0]["code"].as_str())
        .and_then(|code| code.split('-').next())
        .filter(|code| (2..=3).contains(&code.len()))
        .map(str::to_ascii_lowercase);
    let deprived = deprivation.map(|of| {
        let group = of.group(patient);
        ("deprivation", group.unwrap_or_else(|| UNKNOWN.to_owned()))
    });
    let told = [
        ("sex", sex.unwrap_or(UNKNOWN).to_owned()),
        ("age", age.unwrap_or(UNKNOWN).to_owned()),
        ("language", language.unwrap_or_else(|| UNKNOWN.to_owned())),
    ];
    let told = told.into_iter().chain(deprived);
    told.map(|(by, group)| (by.to_owned(), group)).collect()
}
