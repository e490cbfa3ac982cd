//! A patient's consents, and what a change of them would change, told before it is made: a page of the console
//! for staff, and one of the portal for the patient.

mod effect;
mod form;
mod paid;
mod stated;
mod words;

pub(crate) use words::is_yes_to_a_part;

use std::collections::HashMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, Owner};
use maud::{Markup, html};
use trust::identity::KnownAgent;
use trust::{Action, Change, Permit, Purpose, Role, Unit};

use crate::context::{Ctx, Fields, Posted, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, Section, State, console, csrf, portal};
use crate::time::fhir_time;

/// Consents that are shown; of more, the newest.
const SHOWN_MAX: usize = 200;

/// Consents whose statements are looked for together, and the most statements of these.
const STATED_OF: usize = 100;
const STATED_MAX: usize = 500;

/// Random bytes of a form's id, by which a form that is sent twice makes one consent.
const FORM_BYTES: usize = 16;

/// The id of the form that a new consent is made by.
fn form_id(fields: &Fields) -> Result<&str, PageError> {
    fields
        .get("form")
        .filter(|id| id.len() == 2 * FORM_BYTES && id.bytes().all(|byte| byte.is_ascii_hexdigit()))
        .ok_or_else(|| PageError::Invalid("Look at what would change first.".to_owned()))
}

/// Whose consents, and on which pages.
struct Whose<'a> {
    ctx: &'a Ctx,
    patient: String,
    /// The page with the consents; changes are made below it.
    here: String,
}

impl<'a> Whose<'a> {
    fn staff(ctx: &'a Ctx, id: String) -> Result<Self, PageError> {
        ctx.staff()?;
        if !fhir::is_id(&id) {
            return Err(PageError::NotFound);
        }
        let here = format!("/console/patients/{id}/consents");
        Ok(Self {
            ctx,
            patient: id,
            here,
        })
    }

    fn own(ctx: &'a Ctx) -> Result<Self, PageError> {
        let patient = ctx.patient_alone()?.to_owned();
        let here = "/portal/choices".to_owned();
        Ok(Self { ctx, patient, here })
    }

    fn is_own(&self) -> bool {
        self.ctx.role() == Role::Patient
    }

    async fn look(&self) -> Result<Permit, PageError> {
        let kind = Some(ResourceType::Consent);
        self.ctx
            .permit(Action::Search, kind, Some(&self.patient))
            .await
    }

    /// Whether a change of consents is for them to draft: those who see the record that it would change.
    fn may_draft(permit: &Permit) -> bool {
        permit.allows(Action::Search, ResourceType::Condition)
    }

    /// Whether it is for them to make. Others ask a clinician, or the patient.
    fn may_make(&self, permit: &Permit) -> bool {
        let trust = &self.ctx.app.web.trust;
        trust.would_let(permit, Action::Create, ResourceType::Consent)
    }

    fn page(&self, title: &str, body: &Markup) -> Response {
        if self.is_own() {
            portal(self.ctx, title, Some(PortalSection::Consent), None, body)
        } else {
            console(self.ctx, title, Section::Patients, None, body)
        }
    }

    fn crumbs(&self, inner: bool) -> Markup {
        let back = format!("/console/patients/{}", self.patient);
        html! {
            p class="crumbs" {
                @if self.is_own() { a href="/portal/consent" { "Permissions" } }
                @else { a href=(back) { "Patient" } }
                @if inner { " · " a href=(self.here) { (self.title()) } }
            }
        }
    }

    fn title(&self) -> &'static str {
        if self.is_own() {
            "Your choices"
        } else {
            "Consents"
        }
    }

    /// The consents, newest first, with whether these are all. `NotFound` when there is no such patient.
    async fn consents(&self, permit: &Permit) -> Result<(Vec<Resource>, bool), PageError> {
        let queries = [
            query(ResourceType::Patient, &[("_id", &self.patient)], 1)?,
            query(
                ResourceType::Consent,
                &[("patient", &self.patient)],
                SHOWN_MAX,
            )?,
        ];
        let mut pages = self.ctx.vault().search_many(permit, &queries).await?;
        let consents = pages.pop();
        if pages.pop().is_none_or(|page| page.rows.is_empty()) {
            return Err(PageError::NotFound);
        }
        let whole = consents.as_ref().is_none_or(|page| page.next.is_none());
        let rows = consents.map(|page| page.rows).unwrap_or_default();
        Ok((rows.into_iter().map(|row| row.resource).collect(), whole))
    }

    /// What staff stated of these consents, by their ids, with whether that is all.
    async fn stated(
        &self,
        permit: &Permit,
        consents: &[Resource],
    ) -> Result<(HashMap<String, Vec<stated::Told>>, bool), PageError> {
        let kind = ResourceType::Provenance;
        if consents.is_empty() || !permit.allows(Action::Search, kind) {
            return Ok((HashMap::new(), true));
        }
        let targets: Vec<String> = (consents.iter())
            .filter_map(Resource::id)
            .map(|id| format!("{}/{id}", ResourceType::Consent))
            .collect();
        let queries = (targets.chunks(STATED_OF))
            .map(|some| query(kind, &[("target", &some.join(","))], STATED_MAX))
            .collect::<Result<Vec<_>, _>>()?;
        let pages = self.ctx.vault().search_many(permit, &queries).await?;
        let whole = pages.iter().all(|page| page.next.is_none());
        let rows = pages.into_iter().flat_map(|page| page.rows);
        let provenances: Vec<Resource> = rows.map(|row| row.resource).collect();
        let (ledger, tenant) = (self.ctx.app.ledger(), self.ctx.app.web.tenant);
        let owner = Owner::Patient(self.patient.clone());
        let derive = |name: &str| ledger.derive_id(tenant, &owner, name);
        Ok((stated::told(&provenances, derive), whole))
    }

    async fn known(&self, permit: &Permit) -> Result<Vec<KnownAgent>, PageError> {
        Ok(self
            .ctx
            .app
            .web
            .trust
            .whom_consents_can_name(permit)
            .await?)
    }

    async fn show(&self, fields: &Fields) -> Result<Response, PageError> {
        let permit = self.look().await?;
        let (consents, whole) = self.consents(&permit).await?;
        let (stated, all_stated) = self.stated(&permit, &consents).await?;
        let known = self.known(&permit).await?;
        let names: words::Names = form::actors(&known).into_iter().collect();
        let (in_force, others): (Vec<_>, Vec<_>) = consents
            .iter()
            .partition(|consent| consent.text_at(&["status"]) == Some("active"));
        let may_draft = Self::may_draft(&permit);
        let choices = match may_draft {
            true => Some(form::Choices::load(self.ctx, &permit, &self.patient, &known).await?),
            false => None,
        };
        let rules = self.ctx.vault().rules();
        let body = html! {
            (self.crumbs(false))
            @if fields.get("made").is_some() { div class="flash" role="status" { (layout::state(State::Done, "Done")) "It counts from now on." } }
            div class="stack-wide" {
                h1 { (self.title()) }
                p { @if self.is_own() { "What you have said about who may see your record." } @else { "What this patient has said about who may see the record." } }
                @if in_force.is_empty() { (layout::empty("Nothing is said", "What the law allows without a consent holds.")) }
                ul class="stack" { @for consent in &in_force { (self.entry(consent, &names, &stated, may_draft)) } }
                @if !others.is_empty() {
                    details { summary { "No longer in force, or not yet: " (others.len()) }
                        ul class="stack" { @for consent in &others { (self.entry(consent, &names, &stated, false)) } } }
                }
                @if !all_stated { p class="note" { "Not all that was written down about how these were asked for is shown." } }
                @if !whole { p class="note" { "Only the " (SHOWN_MAX) " consents that were recorded last are shown. All of them count." } }
                @if let Some(choices) = &choices {
                    section class="stack" aria-labelledby="draft" {
                        h2 id="draft" { @if self.is_own() { "Say something new" } @else { "Draft a change" } }
                        p { "First you see what would change. Nothing is changed by that." }
                        (form::form(self.ctx, &self.here, choices))
                        (paid::form(self.ctx, &self.here, choices))
                    }
                }
                (words::law(rules))
            }
        };
        Ok(self.page(self.title(), &body))
    }

    fn entry(
        &self,
        consent: &Resource,
        names: &words::Names,
        stated: &HashMap<String, Vec<stated::Told>>,
        may_draft: bool,
    ) -> Markup {
        let stated = consent.id().and_then(|id| stated.get(id));
        let when = |path: &[&str]| {
            let found = fhir_time(&self.ctx.times, consent.text_at(path)?);
            found.map(|(_, words, _)| words)
        };
        let is_over = consent
            .text_at(&["provision", "period", "end"])
            .and_then(fhir::date::parse)
            .is_some_and(|end| end.end_ms <= self.ctx.times.care_ms);
        let (state, word) = match consent.text_at(&["status"]) {
            Some("active") if is_over => (State::Waiting, "Over"),
            Some("active") => (State::Done, "In force"),
            Some("inactive") => (State::Failed, "Taken back"),
            Some("rejected") => (State::Failed, "Declined"),
            _ => (State::Waiting, "Not in force"),
        };
        html! {
            li class="card" {
                p { (layout::state(state, word)) }
                div { (words::sentence(consent, names, self.ctx.app.web.trust.policy_set().purposes())) @if word == "In force" { (words::unbound(self.ctx.vault().rules(), consent)) } }
                p class="quiet small" {
                    @if let Some(said) = when(&["dateTime"]) { "Said " (said) }
                    @if let Some(changed) = when(&["meta", "lastUpdated"]) { " · recorded " (changed) }
                    @if !self.is_own() { @if let Some(id) = consent.id() { " · " a href={ "/console/record/Consent/" (id) } { "As it is kept" } } }
                }
                @for told in stated.into_iter().flatten() {
                    p class="small" {
                        @if self.is_own() { "You asked for this, as we wrote it down. " } @else { "The patient asked for this. " } (told.words)
                        br; span class="quiet" { "Written down by " (told.name) @if let Some((_, when, _)) = fhir_time(&self.ctx.times, &told.recorded) { ", " (when) } }
                    }
                }
                @if trust::consent::is_of_other_scope(consent) {
                    p class="quiet small" { "An advance directive, or a consent to a treatment or a study: it says nothing of who may see the record, and is changed with those who keep it." }
                } @else if may_draft {
                    form method="post" action=(self.here) {
                        (csrf(self.ctx))
                        input type="hidden" name="do" value="withdraw";
                        input type="hidden" name="consent" value=[consent.id()];
                        button type="submit" { "What if it were taken back?" }
                    }
                }
            }
        }
    }

    /// The consent that fields draft, and which version of one that is there it follows.
    async fn drafted(
        &self,
        permit: &Permit,
        fields: &Fields,
        known: &[KnownAgent],
    ) -> Result<(Resource, Expected), PageError> {
        let care_ms = u64::try_from(self.ctx.times.care_ms).unwrap_or_default();
        // A clock that was set back must not make this word older than those before it.
        let now_ms = care_ms.max(self.ctx.app.ledger().last_number().unix_ms());
        match fields.get("do") {
            Some("new") => {
                let draft = form::draft(self.ctx, fields, known)?;
                if let Some(entry) = draft.instance.as_deref().filter(|entry| !entry.is_empty()) {
                    self.own_entry(permit, entry).await?;
                }
                let consent = draft.consent(&self.patient, now_ms);
                Ok((consent.map_err(PageError::Invalid)?, Expected::Absent))
            }
            Some("withdraw") => {
                let id = fields.get("consent").filter(|id| fhir::is_id(id));
                let id = id.ok_or(PageError::NotFound)?;
                let found = self
                    .ctx
                    .vault()
                    .read(permit, ResourceType::Consent, id)
                    .await?;
                let found = found
                    .filter(|found| {
                        !found.deleted && found.resource.patient() == Some(&self.patient)
                    })
                    .ok_or(PageError::NotFound)?;
                let mut consent = found.resource;
                if trust::consent::is_of_other_scope(&consent) {
                    return Err(PageError::Invalid(
                        "This is not about who may see the record.".to_owned(),
                    ));
                }
                if consent.text_at(&["status"]) != Some("active") {
                    return Err(PageError::Invalid(
                        "This is not in force any more.".to_owned(),
                    ));
                }
                if fields
                    .get("version")
                    .is_some_and(|version| version != found.version.to_string())
                {
                    return Err(PageError::Invalid(
                        "Somebody has changed this meanwhile. Look at it again.".to_owned(),
                    ));
                }
                consent.set("status", "inactive".into());
                Ok((consent, Expected::Version(found.version)))
            }
            _ => Err(PageError::Invalid("Choose what to draft.".to_owned())),
        }
    }

    /// Refuses an entry that isn't one of this record's that can be chosen.
    async fn own_entry(&self, permit: &Permit, entry: &str) -> Result<(), PageError> {
        let unknown = || PageError::Invalid("There is no such entry in this record.".to_owned());
        let (kind, id) = fhir::Reference::relative(entry).ok_or_else(unknown)?;
        if !form::ENTRIES.contains(&kind) || !permit.allows(Action::Read, kind) {
            return Err(unknown());
        }
        let found = self.ctx.vault().read(permit, kind, id).await?;
        let is_own = found
            .is_some_and(|found| !found.deleted && found.resource.patient() == Some(&self.patient));
        is_own.then_some(()).ok_or_else(unknown)
    }

    /// What a draft would change.
    async fn foresee(&self, fields: &Fields) -> Result<Response, PageError> {
        let permit = self.look().await?;
        if !Self::may_draft(&permit) {
            return Err(PageError::Refused(
                "What a change of consents would change is for those who see the record."
                    .to_owned(),
            ));
        }
        self.consents(&permit).await?;
        let known = self.known(&permit).await?;
        let names: words::Names = form::actors(&known).into_iter().collect();
        let (consent, expected) = self.drafted(&permit, fields, &known).await?;
        let effect = effect::load(self.ctx, &permit, &self.patient, &consent).await?;
        let takes_back = matches!(expected, Expected::Version(_));
        let body = html! {
            (self.crumbs(true))
            div class="stack-wide" {
                h1 { "What would change" }
                section class="card stack" aria-labelledby="said" {
                    h2 id="said" { @if takes_back { "What would be taken back" } @else { "What would be said" } }
                    div { (words::sentence(&consent, &names, self.ctx.app.web.trust.policy_set().purposes())) (words::unbound(self.ctx.vault().rules(), &consent)) }
                }
                (effect::draw(self.ctx, &effect))
                div class="cluster" {
                    @if self.may_make(&permit) {
                        form class="stack" method="post" action={ (self.here) "/make" } {
                            (csrf(self.ctx))
                            @for (name, value) in fields.0.iter().filter(|(name, _)| !matches!(name.as_str(), "csrf" | "version" | "form")) { input type="hidden" name=(name) value=(value); }
                            @if let Expected::Version(version) = expected { input type="hidden" name="version" value=(version); }
                            @else { input type="hidden" name="form" value=(self.ctx.app.random_hex(FORM_BYTES)); }
                            @if self.has_to_state(&consent, expected) { (stated::fields()) }
                            button class="primary" type="submit" { "Make this change" }
                        }
                    } @else { p class="note" { "A clinician can make this change, or the patient in the portal." } }
                    a class="button" href=(self.here) { "Don't" }
                }
            }
        };
        Ok(self.page("What would change", &body))
    }

    /// Makes the change.
    async fn make(&self, fields: &Fields) -> Result<Response, PageError> {
        let looking = self.look().await?;
        self.consents(&looking).await?;
        let known = self.known(&looking).await?;
        let (mut consent, expected) = self.drafted(&looking, fields, &known).await?;
        if looking.purpose() == Purpose::Emergency {
            return Err(PageError::Refused(
                "Emergency access is for looking at the record; consents are changed without it."
                    .to_owned(),
            ));
        }
        let action = match expected {
            _ if self.is_own() => Action::Work,
            Expected::Absent => Action::Create,
            Expected::Version(_) => Action::Update,
        };
        let kind = Some(ResourceType::Consent);
        let permit = self.ctx.permit(action, kind, Some(&self.patient)).await?;
        if expected != Expected::Absent && fields.get("version").is_none() {
            return Err(PageError::Invalid(
                "Look at what would change first.".to_owned(),
            ));
        }
        let stated = if self.has_to_state(&consent, expected) {
            Some(stated::Stated::of(fields)?)
        } else {
            None
        };
        let (ledger, tenant) = (self.ctx.app.ledger(), self.ctx.app.web.tenant);
        let owner = Owner::Patient(self.patient.clone());
        if expected == Expected::Absent {
            let form = form_id(fields)?;
            let name = format!("consent form {form} {}", self.ctx.session.id);
            consent.set_id(&ledger.derive_id(tenant, &owner, &name));
        }
        let id = consent.id().unwrap_or_default().to_owned();
        consent.strip_meta();
        let mut note = match expected {
            Expected::Absent => "a consent was given on a page",
            Expected::Version(_) => "a consent was taken back on a page",
        }
        .to_owned();
        let mut changes = vec![Change::Put {
            resource: consent,
            expected,
        }];
        if let Some(stated) = stated {
            note.push_str("; ");
            note.push_str(stated.note());
            let version = expected.next();
            let target = format!("Consent/{id}/_history/{version}");
            let mut provenance = stated.provenance(self.ctx, &self.patient, &target);
            let name = stated::name_of(&id, version);
            provenance.set_id(&ledger.derive_id(tenant, &owner, &name));
            changes.push(Change::Put {
                resource: provenance,
                expected: Expected::Absent,
            });
        }
        let unit = Unit {
            changes,
            note: Some(note),
            patient: Some(self.patient.clone()),
            ..Unit::default()
        };
        let done = Redirect::to(&format!("{}?made=yes", self.here)).into_response();
        match self.ctx.vault().commit(&permit, unit).await {
            Ok(_) => Ok(done),
            // The same form, sent twice, is one consent.
            Err(trust::TrustError::Ledger(LedgerError::Conflict))
                if expected == Expected::Absent && self.is_there(&permit, &id).await? =>
            {
                Ok(done)
            }
            Err(error) => Err(error.into()),
        }
    }

    /// Whether a consent of this patient was made already.
    async fn is_there(&self, permit: &Permit, id: &str) -> Result<bool, PageError> {
        let found = self
            .ctx
            .vault()
            .load(permit, ResourceType::Consent, id)
            .await?;
        Ok(found.is_some_and(|found| {
            // Taken back since, it is no longer what the form said.
            found.version == 1 && found.resource.patient() == Some(&self.patient)
        }))
    }

    /// Whether who makes a change has to state that the patient asked for it: staff who take back a "no", or
    /// say a new "yes".
    fn has_to_state(&self, consent: &Resource, expected: Expected) -> bool {
        let widens = match expected {
            Expected::Version(_) => trust::consent::says_no(consent),
            Expected::Absent => stated::has_a_yes(consent),
        };
        widens && !self.is_own()
    }
}

/// `GET /console/patients/{id}/consents`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    Whose::staff(&ctx, id)?.show(&fields).await
}

/// `POST /console/patients/{id}/consents`: drafted in a form, so that nothing of it stands in an address.
pub(crate) async fn foresee(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    Whose::staff(&ctx, id)?.foresee(&fields).await
}

/// `POST /console/patients/{id}/consents/make`.
pub(crate) async fn make(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    Whose::staff(&ctx, id)?.make(&fields).await
}

/// `GET /portal/choices`.
pub(crate) async fn own(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    Whose::own(&ctx)?.show(&fields).await
}

/// `POST /portal/choices`.
pub(crate) async fn foresee_own(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    Whose::own(&ctx)?.foresee(&fields).await
}

/// `POST /portal/choices/make`.
pub(crate) async fn make_own(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    Whose::own(&ctx)?.make(&fields).await
}
