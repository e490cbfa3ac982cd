//! The way of a version: kept as a draft, checked, staged for some of the new patients, live for all of them,
//! retired.
//!
//! What a program from before stages reads as a version starts everybody on it. So a version that isn't live lies
//! under a kind of its own, with how it came to its stage. From when patients may be on it, a document of the
//! older kind reserves its number: older programs find that they can't read it, start nobody on it, set its
//! patients aside and publish nothing under its number. When it goes live, that document becomes the version
//! as they know it.

use crate::books::{Books, StoredDefinition};
use crate::check;
use crate::definition::Definition;
use crate::hands::name_of;
use crate::mover::{MoveError, Mover, questionnaire_id};
use crate::service::{refused, staff};
use crate::yaml::Node;
use crate::{Finding, JourneyError, Journeys, VersionView};
use fhir::{Resource, ResourceType};
use ledger::{Expected, Ledger, LedgerError, Owner, TenantId};
use serde::{Deserialize, Serialize};
use std::sync::Arc;
use trust::{Action, Change, Internal, Permit, TrustError, Unit, kinds};

/// How often a move is tried again when somebody else moves the same journey's versions.
const TRIES: usize = 8;
/// Sites that one stage names at most: a network's, not a nation's.
pub const SITES_MAX: usize = 200;
/// Longest reason, in characters.
const REASON_MAX: usize = 300;

/// How far a version is.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum VersionStage {
    /// It is worked on; it may have errors.
    Draft,
    /// It has no errors, and stays as it is from there on.
    Checked,
    /// Some of the new patients start on it.
    Staged,
    /// New patients start on it.
    Live,
    /// Nobody starts on it; those who are on it go on to their end.
    Retired,
}

impl VersionStage {
    /// All of them, in the order in which they come.
    pub const ALL: [Self; 5] = [
        Self::Draft,
        Self::Checked,
        Self::Staged,
        Self::Live,
        Self::Retired,
    ];

    /// As commands and forms name it.
    #[must_use]
    pub fn name(self) -> &'static str {
        match self {
            Self::Draft => "draft",
            Self::Checked => "checked",
            Self::Staged => "staged",
            Self::Live => "live",
            Self::Retired => "retired",
        }
    }
    /// The stage with this name.
    #[must_use]
    pub fn parse(name: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|stage| stage.name() == name)
    }
    /// The stages that come next, or that it may go back to. Staged again is with another share or other sites.
    #[must_use]
    pub fn next(self) -> &'static [Self] {
        match self {
            Self::Draft => &[Self::Checked, Self::Retired],
            Self::Checked => &[Self::Staged, Self::Live, Self::Retired],
            Self::Staged => &[Self::Checked, Self::Staged, Self::Live, Self::Retired],
            Self::Live => &[Self::Retired],
            Self::Retired => &[],
        }
    }
}

/// Which new patients start on a staged version.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Rollout {
    /// So many in a hundred of them, 1 to 100.
    pub share: u8,
    /// Those of these organizations, by id; of all where none is named.
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    pub sites: Vec<String>,
}

impl Default for Rollout {
    fn default() -> Self {
        Self {
            share: 100,
            sites: Vec::new(),
        }
    }
}

/// A move from one stage to another.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct StageMove {
    /// To which.
    pub to: VersionStage,
    /// When, care clock.
    pub at_ms: u64,
    /// Who, by name.
    pub by: String,
    /// Why, in words.
    pub why: String,
    /// Of `staged`: whom for.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    pub rollout: Option<Rollout>,
}

/// A version on its way, as it is stored.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct StoredStage {
    pub(crate) name: String,
    pub(crate) version: u32,
    pub(crate) source: String,
    pub(crate) stage: VersionStage,
    #[serde(default)]
    pub(crate) rollout: Rollout,
    /// Whether its number is reserved and its forms are made: patients may be on it.
    #[serde(default)]
    pub(crate) reserved: bool,
    pub(crate) history: Vec<StageMove>,
}

/// A version with its stage, for pages.
#[derive(Debug, Clone, Serialize)]
pub struct StageView {
    /// The version, with how many are on it.
    pub version: VersionView,
    /// How it came there, oldest first; empty for one that was published at once.
    pub history: Vec<StageMove>,
    /// The file.
    pub source: String,
    /// What the checker finds in it.
    pub findings: Vec<Finding>,
    /// The stages that it can go to.
    pub next: Vec<VersionStage>,
}

/// A journey's versions on which new patients start.
#[derive(Debug, Clone)]
pub(crate) struct Starting {
    pub(crate) live: Option<Arc<Definition>>,
    pub(crate) staged: Option<(Arc<Definition>, Rollout)>,
}

impl Starting {
    pub(crate) fn versions(&self) -> impl Iterator<Item = &Arc<Definition>> {
        let staged = self.staged.as_ref().map(|(staged, _)| staged);
        self.live.iter().chain(staged)
    }
}

/// Whether a patient is among the share for whom a version is staged: the same each time and on every server,
/// and a patient in a small share is in every greater one. Each version draws anew, so that it isn't always
/// the same patients who come first.
pub(crate) fn is_drawn(
    ledger: &Ledger,
    tenant: TenantId,
    version: &Definition,
    patient: &str,
    share: u8,
) -> bool {
    let owner = Owner::Patient(patient.to_owned());
    let name = format!("stage/{}/{}/{patient}", version.name, version.version);
    let id = ledger.derive_id(tenant, &owner, &name);
    // Ids are made for other ends, and not every digit of one is free.
    let hash = blake3::hash(id.as_bytes());
    let mut first = [0; 8];
    first.copy_from_slice(&hash.as_bytes()[..8]);
    u64::from_be_bytes(first) % 100 < u64::from(share)
}

fn cannot<T>(words: String) -> Result<T, JourneyError> {
    Err(JourneyError::Cannot(words))
}

fn reason(why: &str) -> Result<&str, JourneyError> {
    let why = why.trim();
    if why.is_empty() || why.chars().count() > REASON_MAX || why.chars().any(char::is_control) {
        return cannot(format!(
            "say why, in one line of at most {REASON_MAX} letters"
        ));
    }
    Ok(why)
}

/// The name in a file that may have errors.
fn name_in(source: &str) -> Option<String> {
    let root = Node::parse(source).ok()?;
    let name = root.get("name")?.text()?;
    let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
    (!name.is_empty() && name.len() <= 64 && name.chars().all(plain)).then(|| name.to_owned())
}

fn errors(findings: &[Finding]) -> bool {
    findings.iter().any(|finding| finding.error)
}

impl Journeys {
    /// Keeps a file as the draft of its journey's next version; a draft that is there already is replaced. It may
    /// have errors, but has to say its name.
    ///
    /// # Errors
    /// `Findings`, where no name can be read; `Cannot`; `Trust`.
    pub async fn keep_draft(
        &self,
        permit: &Permit,
        source: &str,
        why: &str,
    ) -> Result<VersionView, JourneyError> {
        let Some(name) = name_in(source) else {
            let books = self.books(permit.tenant()).await?;
            let (_, findings) = self.compiled(&books, source).await?;
            return Err(JourneyError::Findings(findings));
        };
        let why = reason(why)?;
        let books = self.read_anew(permit).await?;
        for _ in 0..TRIES {
            let draft = books.stages_of(&name).into_iter();
            let draft = draft.rev().find(|kept| kept.stage == VersionStage::Draft);
            let mut kept = draft.unwrap_or_else(|| StoredStage {
                name: name.clone(),
                version: books.newest_number(&name) + 1,
                source: String::new(),
                stage: VersionStage::Draft,
                rollout: Rollout::default(),
                reserved: false,
                history: Vec::new(),
            });
            if kept.source == source {
                return self.stage_view(&books, &kept.name, kept.version);
            }
            source.clone_into(&mut kept.source);
            let step = self.step(permit, VersionStage::Draft, why, None);
            if self.store_stage(permit, &books, kept.clone(), step).await? {
                return self.stage_view(&books, &kept.name, kept.version);
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict).into())
    }

    /// Brings a file to a stage, by all the stages between: the version that has this text already, or the draft.
    /// The same text at the same stage again changes nothing.
    ///
    /// # Errors
    /// `Findings`, `Cannot`, `Trust`.
    pub async fn stage_file(
        &self,
        permit: &Permit,
        source: &str,
        to: VersionStage,
        rollout: &Rollout,
        why: &str,
    ) -> Result<VersionView, JourneyError> {
        let books = self.read_anew(permit).await?;
        let Some(name) = name_in(source) else {
            let (_, findings) = self.compiled(&books, source).await?;
            return Err(JourneyError::Findings(findings));
        };
        let same = |kept: &StoredStage| {
            // One that a newer has come after is retired, whatever it said last.
            let view = books.stage_view(&name, kept.version);
            let is_over = view.is_none_or(|view| view.stage == VersionStage::Retired);
            kept.source == source && !is_over
        };
        let known = books.stages_of(&name).into_iter().rev().find(same);
        let known = known.map(|known| known.version);
        // One that was published at once has none of it kept.
        let live = books
            .live(&name)
            .filter(|live| live.stored.source == source);
        let version = match known.or(live.map(|live| live.stored.version)) {
            Some(version) => version,
            None if to == VersionStage::Retired => {
                return cannot("only a version that is there can be retired".to_owned());
            }
            None => {
                let (_, findings) = self.compiled(&books, source).await?;
                // Nothing is kept of a file that was meant to go further than it can.
                if to > VersionStage::Draft && errors(&findings) && !books.was_live(&name, source) {
                    return Err(JourneyError::Findings(findings));
                }
                self.keep_draft(permit, source, why).await?.version
            }
        };
        let view = self.stage_view(&books, &name, version)?;
        if view.stage == to && (to != VersionStage::Staged || view.rollout() == *rollout) {
            return Ok(view);
        }
        if view.stage == VersionStage::Draft && to > VersionStage::Checked {
            let checked = VersionStage::Checked;
            self.set_stage(permit, &name, version, checked, rollout, why)
                .await?;
        }
        self.set_stage(permit, &name, version, to, rollout, why)
            .await
    }

    /// Brings a version from its stage to another, as [`VersionStage::next`] allows.
    ///
    /// # Errors
    /// `Unknown`, `Findings`, `Cannot`, `Trust`.
    pub async fn set_stage(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
        to: VersionStage,
        rollout: &Rollout,
        why: &str,
    ) -> Result<VersionView, JourneyError> {
        if permit.action() != Action::Publish {
            return Err(refused(
                "this permit is not for those who answer for journeys",
            ));
        }
        let why = reason(why)?;
        if to == VersionStage::Staged {
            check_rollout(rollout)?;
        }
        let books = self.read_anew(permit).await?;
        for _ in 0..TRIES {
            let kept = self.kept_stage(&books, name, version)?;
            if !kept.stage.next().contains(&to) {
                return cannot(format!(
                    "version {version} of {name} is {}, and can't be {} from there",
                    kept.stage.name(),
                    to.name()
                ));
            }
            let of = kept.clone();
            let may_be = move |journeys: &Self, books: &Books| {
                let checked = match to {
                    VersionStage::Draft | VersionStage::Retired => (None, Vec::new()),
                    _ => check::compile(&of.source),
                };
                journeys.may_be(books, &of, to, &checked)
            };
            self.beside(&books, may_be).await??;
            if kept.stage == to && kept.rollout == *rollout {
                return self.stage_view(&books, name, version);
            }
            let named = (to == VersionStage::Staged).then(|| rollout.clone());
            let step = self.step(permit, to, why, named);
            if self.store_stage(permit, &books, kept, step).await? {
                return self.stage_view(&books, name, version);
            }
        }
        Err(TrustError::Ledger(LedgerError::Conflict).into())
    }

    /// A version with its stage and how it came there.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn stage(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<StageView, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        let view = self.stage_view(&books, name, version)?;
        let kept = self.kept_stage(&books, name, version)?;
        let (stage, of) = (view.stage, kept.clone());
        let looked = move |journeys: &Self, books: &Books| {
            let checked = check::compile(&of.source);
            let next = stage.next().iter().copied();
            let next = next.filter(|to| journeys.may_be(books, &of, *to, &checked).is_ok());
            let next: Vec<VersionStage> = next.collect();
            let (definition, mut findings) = checked;
            if stage != VersionStage::Retired
                && let Some(definition) = definition
            {
                findings.extend(journeys.among_others(books, &definition));
            }
            (next, findings)
        };
        let (next, findings) = self.beside(&books, looked).await?;
        Ok(StageView {
            next,
            version: view,
            findings,
            history: kept.history,
            source: kept.source,
        })
    }

    /// The file of a version, as it is kept. Nothing is checked.
    ///
    /// # Errors
    /// `Unknown`, `Trust`.
    pub async fn source(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<String, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        Ok(self.kept_stage(&books, name, version)?.source)
    }

    /// Whether a version has a graph: a draft has none, for it may have errors.
    ///
    /// # Errors
    /// `Trust`.
    pub async fn has_graph(
        &self,
        permit: &Permit,
        name: &str,
        version: u32,
    ) -> Result<bool, JourneyError> {
        staff(permit)?;
        let books = self.books(permit.tenant()).await?;
        Ok(books.version(name, version).is_some())
    }

    /// What others have published or staged may not have been heard of here.
    async fn read_anew(&self, permit: &Permit) -> Result<Arc<Books>, JourneyError> {
        let books = self.books(permit.tenant()).await?;
        let engine = self.engine_permit(permit.tenant()).await?;
        books.read_definitions(self.vault(), &engine).await?;
        Ok(books)
    }

    fn step(
        &self,
        permit: &Permit,
        to: VersionStage,
        why: &str,
        rollout: Option<Rollout>,
    ) -> StageMove {
        StageMove {
            to,
            at_ms: self.now_ms(),
            by: name_of(permit),
            why: why.to_owned(),
            rollout,
        }
    }

    /// What is kept of a version; of one that was published at once, what would be.
    fn kept_stage(
        &self,
        books: &Books,
        name: &str,
        version: u32,
    ) -> Result<StoredStage, JourneyError> {
        let view = self.stage_view(books, name, version)?;
        if let Some(kept) = books.stage_of(name, version) {
            // One that a newer has come after is retired, whatever it said last.
            return Ok(StoredStage {
                stage: view.stage,
                ..kept
            });
        }
        let published = Self::published(books, name, Some(version))?;
        Ok(StoredStage {
            name: name.to_owned(),
            version,
            source: published.stored.source.clone(),
            stage: view.stage,
            rollout: Rollout::default(),
            reserved: true,
            history: Vec::new(),
        })
    }

    fn stage_view(
        &self,
        books: &Books,
        name: &str,
        version: u32,
    ) -> Result<VersionView, JourneyError> {
        let found = books.stage_view(name, version);
        found.ok_or_else(|| JourneyError::Unknown(format!("{name}, version {version}")))
    }

    /// Whether what the checker finds, and what else there is of the journey, let a version come to a stage.
    fn may_be(
        &self,
        books: &Books,
        kept: &StoredStage,
        to: VersionStage,
        (definition, findings): &(Option<Definition>, Vec<Finding>),
    ) -> Result<(), JourneyError> {
        let (name, version) = (&kept.name, kept.version);
        if matches!(to, VersionStage::Staged | VersionStage::Live) {
            let live = books.newest_defined(name).filter(|live| *live > version);
            if let Some(live) = live {
                return cannot(format!(
                    "version {live} of {name} has gone live since; keep version {version} anew as a draft"
                ));
            }
            let staged = books.staged(name).filter(|staged| *staged != version);
            if let Some(staged) = staged {
                return cannot(format!(
                    "version {staged} of {name} is staged; make it live or take it back first"
                ));
            }
        }
        if to != VersionStage::Retired && to != VersionStage::Draft {
            // What patients are on already goes on, whatever the checker has learnt since.
            let known = kept.reserved || books.was_live(name, &kept.source);
            if errors(findings) && !known {
                return Err(JourneyError::Findings(findings.clone()));
            }
            // What it begins and whom it calls is another matter: that depends on what else is live, and who may be
            // told what, now.
            if let Some(definition) = definition {
                // The list of words is of the checker.
                let mut wrong = self.uncleared(definition, !known);
                if to != VersionStage::Checked {
                    wrong.extend(check::others(definition, &|name| books.begins(name)));
                }
                if !wrong.is_empty() {
                    return Err(JourneyError::Findings(wrong));
                }
            }
        }
        Ok(())
    }

    /// Writes a version at its next stage. Whether it was; else somebody else was faster, and it is read anew.
    async fn store_stage(
        &self,
        permit: &Permit,
        books: &Arc<Books>,
        mut kept: StoredStage,
        step: StageMove,
    ) -> Result<bool, JourneyError> {
        let (ledger, tenant) = (self.vault().ledger(), permit.tenant());
        let id = |what: &str| {
            let name = format!("{what}/{}/{}", kept.name, kept.version);
            ledger.derive_id(tenant, &Owner::Tenant, &name)
        };
        let (stage_id, definition_id) = (id("stage"), id("definition"));
        let kind = kinds::JOURNEY_STAGE;
        let stored = self.vault().internal(permit, kind, &stage_id).await?;
        // What is written goes on from what is stored, so it has to be what was looked at.
        let history = stored.as_ref().map(|stored| {
            let stored: Option<StoredStage> = serde_json::from_slice(&stored.body).ok();
            stored.map(|stored| stored.history)
        });
        if history.unwrap_or_else(|| Some(Vec::new())).as_ref() != Some(&kept.history) {
            let engine = self.engine_permit(tenant).await?;
            books.read_definitions(self.vault(), &engine).await?;
            return Ok(false);
        }
        let expected = stored.map_or(Expected::Absent, |found| Expected::Version(found.version));
        let to = step.to;
        if let Some(rollout) = &step.rollout {
            kept.rollout = rollout.clone();
        }
        let mut unit = Unit {
            note: Some(format!(
                "{}: version {} is {}",
                kept.name,
                kept.version,
                to.name()
            )),
            ..Unit::default()
        };
        let starts = matches!(to, VersionStage::Staged | VersionStage::Live);
        if starts && !kept.reserved {
            let of = kept.clone();
            let forms = move |journeys: &Self, _: &Books| journeys.forms(tenant, &of);
            unit.changes = self.beside(books, forms).await??;
        }
        if to == VersionStage::Live || (starts && !kept.reserved) {
            let live = to == VersionStage::Live;
            let expected = self
                .expected(permit, kinds::JOURNEY_DEFINITION, &definition_id)
                .await?;
            if !kept.reserved && expected != Expected::Absent {
                return cannot(format!(
                    "a version {} of {} was published meanwhile; keep this one anew as a draft",
                    kept.version, kept.name
                ));
            }
            let stored = StoredDefinition {
                name: kept.name.clone(),
                version: kept.version,
                source: if live {
                    kept.source.clone()
                } else {
                    String::new()
                },
                published_ms: step.at_ms,
                published_by: step.by.clone(),
                staged: !live,
            };
            unit.internals.push(Internal {
                kind: kinds::JOURNEY_DEFINITION,
                id: definition_id,
                owner: Owner::Tenant,
                expected,
                body: serde_json::to_vec(&stored).unwrap_or_default(),
                deleted: false,
                tokens: vec![("name".to_owned(), kept.name.clone())],
            });
        }
        kept.reserved |= starts;
        kept.stage = to;
        kept.history.push(step);
        unit.internals.push(Internal {
            kind: kinds::JOURNEY_STAGE,
            id: stage_id,
            owner: Owner::Tenant,
            expected,
            body: serde_json::to_vec(&kept).unwrap_or_default(),
            deleted: false,
            tokens: vec![("name".to_owned(), kept.name.clone())],
        });
        let done = self.vault().commit(permit, unit).await;
        let engine = self.engine_permit(tenant).await?;
        books.read_definitions(self.vault(), &engine).await?;
        match done {
            Ok(_) => Ok(true),
            Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(false),
            Err(other) => Err(other.into()),
        }
    }

    async fn expected(
        &self,
        permit: &Permit,
        kind: ledger::Kind,
        id: &str,
    ) -> Result<Expected, JourneyError> {
        let found = self.vault().internal(permit, kind, id).await?;
        Ok(found.map_or(Expected::Absent, |found| Expected::Version(found.version)))
    }

    /// The forms of a version, which patients are asked to fill in.
    fn forms(&self, tenant: TenantId, kept: &StoredStage) -> Result<Vec<Change>, JourneyError> {
        let (definition, findings) = check::compile(&kept.source);
        let Some(definition) = definition else {
            return Err(JourneyError::Findings(findings));
        };
        let (ledger, now_ms) = (self.vault().ledger(), self.now_ms());
        let journey = format!("{}/{}", kept.name, kept.version);
        let forms = definition.steps.iter().filter_map(|step| {
            let id = questionnaire_id(ledger, tenant, &journey, &step.id);
            let kind = &step.kind;
            let resource = kind.questionnaire(&definition, kept.version, step, &id, now_ms)?;
            Some(Change::Put {
                resource,
                expected: Expected::Absent,
            })
        });
        Ok(forms.collect())
    }

    /// Whether a new patient starts on this version of those that start new patients.
    pub(crate) async fn starts_on(
        &self,
        mover: &mut Mover<'_>,
        starting: &Starting,
        version: u32,
        patient: &str,
        entry: Option<&Resource>,
    ) -> Result<bool, MoveError> {
        let Some((staged, rollout)) = &starting.staged else {
            return Ok(true);
        };
        let (ledger, tenant) = (self.vault().ledger(), mover.tenant());
        let drawn = is_drawn(ledger, tenant, staged, patient, rollout.share)
            && (rollout.sites.is_empty() || {
                let site = self.site(mover, entry).await?;
                site.is_some_and(|site| rollout.sites.contains(&site))
            });
        Ok(drawn == (version == staged.version))
    }

    /// The organization where a journey starts: that of the stay or visit that it starts from or that its entry
    /// names, else that which keeps the patient's record.
    async fn site(
        &self,
        mover: &mut Mover<'_>,
        entry: Option<&Resource>,
    ) -> Result<Option<String>, MoveError> {
        let of = |resource: &Resource, member: &str| {
            let reference = resource.text_at(&[member, "reference"])?;
            reference.strip_prefix("Organization/").map(str::to_owned)
        };
        if let Some(entry) = entry {
            let named = entry.text_at(&["encounter", "reference"]);
            let named = named.and_then(|named| named.strip_prefix("Encounter/"));
            let site = match named {
                _ if entry.kind() == ResourceType::Encounter => of(entry, "serviceProvider"),
                Some(id) => {
                    let kind = ResourceType::Encounter;
                    let found = self.vault().load(mover.permit(), kind, id).await?;
                    let found = found.filter(|found| !found.deleted);
                    found.and_then(|found| of(&found.resource, "serviceProvider"))
                }
                None => None,
            };
            if site.is_some() {
                return Ok(site);
            }
        }
        let person = mover.person().await?;
        Ok(person.and_then(|person| of(person, "managingOrganization")))
    }

    /// The staged version that a request starts this patient on, if one does.
    pub(crate) async fn staged_for(
        &self,
        books: &Books,
        engine: &Permit,
        name: &str,
        patient: &str,
    ) -> Result<Option<Arc<Definition>>, MoveError> {
        let starting = books.starting();
        let starting = starting.iter().find(|starting| {
            let mut versions = starting.versions();
            versions.any(|version| version.name == name)
        });
        let Some(starting) = starting else {
            return Ok(None);
        };
        let Some((staged, _)) = &starting.staged else {
            return Ok(None);
        };
        let mut mover = Mover::new(self.vault(), engine, patient, self.now_ms());
        let takes = self.starts_on(&mut mover, starting, staged.version, patient, None);
        Ok(takes.await?.then(|| staged.clone()))
    }
}

fn check_rollout(rollout: &Rollout) -> Result<(), JourneyError> {
    if !(1..=100).contains(&rollout.share) {
        return cannot("a share is 1 to 100 in a hundred".to_owned());
    }
    if rollout.sites.len() > SITES_MAX || !rollout.sites.iter().all(|site| fhir::is_id(site)) {
        return cannot(format!(
            "sites are ids of organizations, {SITES_MAX} at most"
        ));
    }
    Ok(())
}
