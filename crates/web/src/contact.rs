//! Confidential communications (45 CFR 164.522(b)), as staff write them down: the one address or number at which a
//! patient wants to be reached. No reason is asked.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError};
use maud::html;
use serde_json::{Value, json};
use trust::conventions::CONFIDENTIAL_EXTENSION;
use trust::{
    Action, AddressMark, AddressStanding, AddressTrouble, Change, Permit, Role, TrustError, Unit,
    Vault,
};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::portal::choices::is_address;

/// FHIR's extension for words about a contact point: other systems don't know ours, and people read these.
const COMMENT: &str = "http://hl7.org/fhir/StructureDefinition/contactpoint-comment";
const COMMENT_WORDS: &str = "Use this alone, and no other address or number: the patient asked for confidential communications (45 CFR 164.522(b)).";
/// Kinds of contact points: as FHIR has it, and in words.
const KINDS: [(&str, &str); 3] = [
    ("email", "E-mail address"),
    ("phone", "Telephone number"),
    ("sms", "Number for text messages"),
];
/// Numbers of a patient of which it is asked whether they get text messages.
const NUMBERS_MAX: usize = 20;
/// Tries of a change that others keep overtaking.
const TRIES: usize = 4;

/// Where alone a patient may be reached, in words; none where they have not asked for that.
pub(crate) fn only_words(patient: &Resource, now_ms: i64) -> Option<String> {
    let channels = trust::consent::only_at(patient, now_ms)?;
    let words: Vec<String> = channels
        .iter()
        .map(|channel| {
            let how = match channel.kind.as_str() {
                "email" => "e-mail",
                "sms" => "text message",
                _ => "telephone",
            };
            format!("{how} {}", channel.address)
        })
        .collect();
    Some(if words.is_empty() {
        "Only in the portal".to_owned()
    } else {
        format!("Only by {}", words.join(" or "))
    })
}

/// The numbers of a patient, as they are written, that get no text messages because somebody sent STOP from them.
pub(crate) async fn stopped(ctx: &Ctx, patient: &Resource) -> Result<Vec<String>, PageError> {
    let mut found = Vec::new();
    let channels = trust::consent::texts(patient, ctx.times.care_ms);
    for channel in channels.into_iter().take(NUMBERS_MAX) {
        let tenant = ctx.app.web.tenant;
        if (ctx.vault().is_text_stopped(tenant, &channel.address)).await? {
            found.push(channel.address);
        }
    }
    Ok(found)
}

/// An e-mail address of a patient, or of somebody who acts for them, that is not written to any more, and why.
pub(crate) struct Barred {
    pub(crate) address: String,
    /// Whose it is, if not the patient's.
    pub(crate) whose: Option<String>,
    mark: AddressMark,
}

impl Barred {
    /// Whether whoever reads there said that our e-mail is unwanted, which can be taken back.
    pub(crate) fn is_unwanted(&self) -> bool {
        self.mark.why == AddressTrouble::Complained
    }

    /// Why, in words.
    pub(crate) fn words(&self) -> String {
        match (self.mark.why, &self.mark.code) {
            (AddressTrouble::Bounced, Some(code)) => {
                format!("what was sent there came back ({code})")
            }
            (AddressTrouble::Bounced | AddressTrouble::Other, _) => {
                "what was sent there came back".to_owned()
            }
            (AddressTrouble::Complained, _) => {
                "who reads there said that our e-mail is unwanted".to_owned()
            }
        }
    }
}

/// The addresses of a patient, and of those who act for them, that are not written to any more.
pub(crate) async fn barred(
    ctx: &Ctx,
    permit: &Permit,
    patient: &Resource,
) -> Result<Vec<Barred>, PageError> {
    let vault = ctx.vault();
    let Some(id) = patient.id() else {
        return Ok(Vec::new());
    };
    let telecoms = patient.get("telecom").and_then(Value::as_array);
    let telecoms = telecoms.into_iter().flatten();
    let own = telecoms
        .filter(|telecom| telecom["system"] == "email")
        .filter_map(|telecom| telecom["value"].as_str())
        .map(|address| (address.to_owned(), None));
    let mut addresses: Vec<(String, Option<String>)> = own.collect();
    for (name, address) in vault.addresses_of_who_acts(permit, id).await? {
        addresses.push((address, Some(name)));
    }
    let mut all: Vec<Barred> = Vec::new();
    for (address, whose) in addresses {
        if all.iter().any(|known| known.address == address) {
            continue;
        }
        let mark = vault.address_id(permit.tenant(), id, &address);
        let (standing, _) = vault.address_standing(permit, &mark).await?;
        all.extend(standing.mark.map(|mark| Barred {
            address,
            whose,
            mark,
        }));
    }
    Ok(all)
}

/// Lets an address of a patient be written to again that wasn't; where `only` says why it wasn't, one of that sort alone.
/// Whether that was done.
pub(crate) async fn clear(
    ctx: &Ctx,
    permit: &Permit,
    (id, address): (&str, &str),
    only: Option<AddressTrouble>,
) -> Result<bool, PageError> {
    let vault = ctx.vault();
    let mark = vault.address_id(permit.tenant(), id, address);
    let (standing, expected) = vault.address_standing(permit, &mark).await?;
    let why = standing.mark.map(|mark| mark.why);
    if why.is_none_or(|why| only.is_some_and(|only| only != why)) {
        return Ok(false);
    }
    let cleared = AddressStanding {
        cleared_ms: Some(vault.ledger().clock().now_ms()),
        ..AddressStanding::default()
    };
    let unit = Unit {
        internals: vec![Vault::stand_address(id, &mark, &cleared, expected)],
        note: Some("an address is written to again".to_owned()),
        patient: Some(id.to_owned()),
        ..Unit::default()
    };
    match vault.commit(permit, unit).await {
        Ok(_) => Ok(true),
        // Somebody else has just done it, or more came back: the page says which.
        Err(TrustError::Ledger(LedgerError::Conflict)) => Ok(false),
        Err(error) => Err(error.into()),
    }
}

/// The same of a clinician's.
async fn write_again(ctx: &Ctx, id: &str, address: &str) -> Result<Response, PageError> {
    let of = Some(ResourceType::Patient);
    let permit = ctx.permit(Action::Update, of, Some(id)).await?;
    clear(ctx, &permit, (id, address), None).await?;
    let to = format!("/console/patients/{id}/contact?done=yes");
    Ok(Redirect::to(&to).into_response())
}

/// Whether a number could be called: digits, and what people put between them.
fn is_number(text: &str) -> bool {
    text.len() <= 40
        && text
            .chars()
            .all(|one| one.is_ascii_digit() || " +-()/.".contains(one))
        && text.chars().filter(char::is_ascii_digit).count() >= 3
}

fn is_asked(telecom: &Value) -> bool {
    telecom["extension"].as_array().is_some_and(|extensions| {
        (extensions.iter())
            .any(|one| one["url"] == CONFIDENTIAL_EXTENSION && one["valueBoolean"] == true)
    })
}

/// The address that is asked for now: its kind, and itself.
pub(crate) fn asked(patient: &Resource) -> Option<(&str, &str)> {
    let telecoms = patient.get("telecom").and_then(Value::as_array)?;
    let found = telecoms.iter().find(|telecom| is_asked(telecom))?;
    Some((found["system"].as_str()?, found["value"].as_str()?))
}

/// Makes an address the only one that may be used, or none.
pub(crate) fn set_asked(patient: &mut Resource, only: Option<(&str, &str)>) {
    let telecoms = patient.get("telecom").and_then(Value::as_array);
    let mut telecoms = telecoms.cloned().unwrap_or_default();
    telecoms.retain(|telecom| !is_asked(telecom));
    if let Some((kind, address)) = only {
        telecoms.push(json!({
            "extension": [
                { "url": CONFIDENTIAL_EXTENSION, "valueBoolean": true },
                { "url": COMMENT, "valueString": COMMENT_WORDS },
            ],
            "system": kind,
            "value": address,
            "rank": 1,
        }));
    }
    if telecoms.is_empty() {
        patient.remove("telecom");
    } else {
        patient.set("telecom", Value::Array(telecoms));
    }
}

fn checked(ctx: &Ctx, id: &str) -> Result<(), PageError> {
    ctx.staff()?;
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    if ctx.role() != Role::Clinician {
        return Err(PageError::Refused(
            "Where a patient alone wants to be reached is written down by clinicians, or by the patient in the portal.".to_owned(),
        ));
    }
    Ok(())
}

/// `GET /console/patients/{id}/contact`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    let kind = Some(ResourceType::Patient);
    let permit = ctx.permit(Action::Read, kind, Some(&id)).await?;
    let patient = ctx
        .vault()
        .read(&permit, ResourceType::Patient, &id)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)?
        .resource;
    let now = asked(&patient);
    let barred = barred(&ctx, &permit, &patient).await?;
    let title = "Only one address or number";
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { "Patient" } }
        @if fields.get("done").is_some() { div class="flash" role="status" { (layout::state(State::Done, "Done")) "It counts from now on, also for messages that wait." } }
        div class="stack-wide" {
            h1 { (title) }
            p { "A patient may ask to be reached at one place alone, and need not say why. Messages of journeys, the worklist and the patient's page then name no other. Whoever acts for the patient is not shown it." }
            @if let Some(only) = only_words(&patient, ctx.times.care_ms) { p class="note" { (only) "." } }
            form class="fields" method="post" action={ "/console/patients/" (id) "/contact" } {
                (csrf(&ctx))
                label { "What it is"
                    select name="kind" required {
                        @for (value, words) in KINDS { option value=(value) selected[now.is_some_and(|(kind, _)| kind == value)] { (words) } }
                    }
                }
                label { "Address or number" span class="hint" { "Leave it empty when the patient takes it back" } input type="text" name="address" value=[now.map(|(_, address)| address)] maxlength="254" autocomplete="off"; }
                div { button class="primary" type="submit" { "Use this alone" } }
            }
            @if !barred.is_empty() {
                section class="stack" aria-labelledby="barred" {
                    h2 id="barred" { "Addresses that are not written to" }
                    p { "Ask whose it is whether the address is right. What was not sent goes another way, and messages to another address go out as ever." }
                    @for one in &barred {
                        form class="fields" method="post" action={ "/console/patients/" (id) "/contact" } {
                            (csrf(&ctx))
                            input type="hidden" name="again" value=(one.address);
                            p { span class="strong" { (one.address) } @if let Some(whose) = &one.whose { " (of " (whose) ", who acts for the patient)" } ": " (one.words()) "." }
                            div { button type="submit" { "Write there again" } }
                        }
                    }
                }
            }
            p class="quiet small" { "Other addresses stay on record, so that the patient is found by them. Other systems see them, beside this one with a comment that says that it alone is to be used." }
        }
    };
    Ok(console(&ctx, title, Section::Patients, None, &body))
}

/// `POST /console/patients/{id}/contact`.
pub(crate) async fn set(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    if let Some(address) = fields.get("again") {
        return write_again(&ctx, &id, address).await;
    }
    let kind = fields.get("kind").unwrap_or_default();
    if !KINDS.iter().any(|(known, _)| *known == kind) {
        return Err(PageError::Invalid("Choose what it is.".to_owned()));
    }
    let only = match fields.get("address") {
        None => None,
        Some(address) if kind == "email" && !is_address(address) => {
            return Err(PageError::Invalid("That is no e-mail address.".to_owned()));
        }
        Some(address) if kind != "email" && !is_number(address) => {
            return Err(PageError::Invalid("That is no number.".to_owned()));
        }
        Some(address) => Some((kind, address)),
    };
    let of = Some(ResourceType::Patient);
    let permit = ctx.permit(Action::Update, of, Some(&id)).await?;
    let mut tries = 0;
    loop {
        let found = ctx
            .vault()
            .load(&permit, ResourceType::Patient, &id)
            .await?
            .filter(|found| !found.deleted)
            .ok_or(PageError::NotFound)?;
        let mut resource = found.resource;
        set_asked(&mut resource, only);
        resource.strip_meta();
        let unit = Unit {
            changes: vec![Change::Put {
                resource,
                expected: Expected::Version(found.version),
            }],
            note: Some("confidential communications written down by staff".to_owned()),
            patient: Some(id.clone()),
            ..Unit::default()
        };
        match ctx.vault().commit(&permit, unit).await {
            Ok(_) => {
                let to = format!("/console/patients/{id}/contact?done=yes");
                return Ok(Redirect::to(&to).into_response());
            }
            Err(TrustError::Ledger(LedgerError::Conflict)) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}
