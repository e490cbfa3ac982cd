//! What the patient decides: consent, and how they want to be reached.

use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use ledger::{Expected, LedgerError, Owner};
use maud::{Markup, html};
use serde_json::Value;
use trust::consent::{is_same_number, set_texts_wanted, set_wanted};
use trust::conventions::{CONFIDENTIAL_EXTENSION, NOT_WANTED_EXTENSION};
use trust::{Action, AddressTrouble, Change, Purpose, TrustError, Unit};

use crate::consents::is_yes_to_a_part;
use crate::contact::{Barred, asked, barred, clear, only_words, set_asked};
use crate::context::{Ctx, Fields, Posted, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, State, csrf, portal};
use crate::patient::words::{consent_words, is_about_messages};
use crate::time::fhir_time;

use super::{PER_TYPE_MAX, change, said};

/// Random bytes of a form's id.
const FORM_BYTES: usize = 16;

/// `GET /portal/consent`.
pub(crate) async fn consent(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    let permit = ctx
        .permit(Action::Search, Some(ResourceType::Consent), Some(patient))
        .await?;
    let page = ctx
        .vault()
        .search(
            &permit,
            &query(ResourceType::Consent, &[("patient", patient)], PER_TYPE_MAX)?,
            None,
        )
        .await?;
    let consents: Vec<Resource> = page.rows.into_iter().map(|row| row.resource).collect();
    let decision = trust::consent::decide(
        ctx.vault().rules(),
        &consents,
        Purpose::Treatment,
        ctx.times.care_ms,
    );
    // A "no" to something else stops what is about that, and other messages may go on.
    let stops_all = decision.consent.as_deref().is_none_or(|id| {
        let said = consents.iter().find(|consent| consent.id() == Some(id));
        said.is_none_or(is_about_messages)
    });
    let form = ctx.app.random_hex(FORM_BYTES);
    let button = |value: &str, words: &str, primary: bool| {
        html! {
            form method="post" action="/portal/consent" {
                (csrf(&ctx))
                input type="hidden" name="do" value=(value);
                input type="hidden" name="form" value=(form);
                button class=[primary.then_some("primary")] type="submit" { (words) }
            }
        }
    };
    let body = html! {
        div class="stack-wide" {
            (said(&fields))
            h1 { "Your permissions" }
            section class="card stack" aria-labelledby="follow-up" {
                @if decision.permitted { (layout::state(State::Done, if decision.consent.is_some() { "You said yes" } else { "Allowed as long as you don't say no" })) } @else if stops_all { (layout::state(State::Failed, "You said no")) } @else { (layout::state(State::Waiting, "You said no to something")) }
                h2 id="follow-up" { "Follow-up and messages" }
                p { "May we use your record to follow how you are after your stay, and write to you about it?" }
                @if decision.permitted {
                    p { "If you say no, we stop writing to you and the follow-up ends. It does not change your treatment. You can say yes again at any time." }
                    div class="cluster" { @if decision.consent.is_none() { (button("give", "Yes, you may", true)) } (button("withdraw", "No, please stop", false)) }
                } @else if !stops_all {
                    p { "You said no to a use of your record, as listed below. A follow-up that may be about it has stopped; others may go on, and write to you. You can stop all of them." }
                    div class="cluster" { (button("give", "Yes, you may", false)) (button("withdraw", "No, please stop", true)) }
                } @else {
                    p { "We do not write to you. If you say yes, we may again. A follow-up that has ended does not start again by itself." }
                    div { (button("give", "Yes, you may", true)) }
                }
            }
            p { a href="/portal/proxies" { "Who acts for you" } ": who may see these pages in your place." }
            p { a href="/portal/choices" { "Your choices" } ": who may see your record, and what would change if you said something else." }
            @if !consents.is_empty() {
                section class="stack" aria-labelledby="all" {
                    h2 id="all" { "What you have told us" }
                    ul class="links" { @for consent in &consents { (told(&ctx, consent)) } }
                }
            }
        }
    };
    Ok(portal(
        &ctx,
        "Your permissions",
        Some(PortalSection::Consent),
        None,
        &body,
    ))
}

fn told(ctx: &Ctx, consent: &Resource) -> Markup {
    let permits =
        consent.text_at(&["provision", "type"]) != Some("deny") || is_yes_to_a_part(consent);
    let (state, words) = match consent.text_at(&["status"]) {
        Some("active") if permits => (State::Done, "Yes"),
        Some("active" | "rejected") => (State::Failed, "No"),
        Some("inactive") => (State::Failed, "Taken back"),
        _ => (State::Waiting, "Not in force"),
    };
    let when = |path: &[&str]| {
        consent
            .text_at(path)
            .and_then(|text| fhir_time(&ctx.times, text))
            .map(|(ms, ..)| ms)
    };
    html! {
        li {
            span class="line" {
                (layout::state(state, words)) " to " @if is_about_messages(consent) { "follow-up and messages" } @else { (consent_words(consent, ctx.app.web.trust.policy_set().purposes())) } br;
                span class="quiet small" {
                    @if let Some(asked) = when(&["dateTime"]) { "asked on " (ctx.times.date(asked)) }
                    @if let (Some("inactive"), Some(changed)) = (consent.text_at(&["status"]), when(&["meta", "lastUpdated"])) { ", taken back on " (ctx.times.date(changed)) }
                }
            }
        }
    }
}

/// `POST /portal/consent`.
pub(crate) async fn set_consent(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?.to_owned();
    let give = match fields.get("do") {
        Some("give") => true,
        Some("withdraw") => false,
        _ => return Err(PageError::Invalid("Please choose yes or no.".to_owned())),
    };
    let permit = ctx
        .permit(Action::Work, Some(ResourceType::Consent), Some(&patient))
        .await?;
    // A "yes" or a "no" is a consent of its own; the newest counts, and all stay on record. A clock that
    // was set back must not make this one older than what was said before, so the store's order, which
    // never goes back, has a word in it.
    let now_ms = u64::try_from(ctx.times.care_ms)
        .unwrap_or_default()
        .max(ctx.app.ledger().last_number().unix_ms());
    let mut resource = trust::consent::care_messages(&patient, give, now_ms);
    let owner = Owner::Patient(patient.clone());
    // The same form, sent twice, is one word.
    let form = fields.get("form").unwrap_or_default();
    let ledger = ctx.app.ledger();
    let id = ledger.derive_id(
        ctx.app.web.tenant,
        &owner,
        &format!("permission form {form} {give} {}", ctx.session.id),
    );
    if form.is_empty() {
        resource.set_id(&ledger.mint_id(ctx.app.web.tenant, &owner));
    } else {
        resource.set_id(&id);
    }
    let note = if give {
        "consent given in the portal"
    } else {
        "consent withdrawn in the portal"
    };
    let unit = |resource: Resource| Unit {
        changes: vec![Change::Put {
            resource,
            expected: Expected::Absent,
        }],
        note: Some(note.to_owned()),
        patient: Some(patient.clone()),
        ..Unit::default()
    };
    match ctx.vault().commit(&permit, unit(resource.clone())).await {
        Err(TrustError::Ledger(LedgerError::Conflict)) => {
            // Sent again after another word, by a page that was left open, it is a word of its own.
            let parameters = [("patient", patient.as_str())];
            let query = query(ResourceType::Consent, &parameters, PER_TYPE_MAX)?;
            let page = ctx.vault().load_search(&permit, &query, None).await?;
            let mut rows = page.rows.iter().map(|row| &row.resource);
            let newest = rows.find(|row| is_about_messages(row));
            if newest.and_then(|newest| newest.id()) != Some(&id) {
                resource.set_id(&ctx.app.ledger().mint_id(ctx.app.web.tenant, &owner));
                ctx.vault().commit(&permit, unit(resource)).await?;
            }
        }
        other => {
            other?;
        }
    }
    Ok(Redirect::to(if give {
        "/portal/consent?said=given"
    } else {
        "/portal/consent?said=withdrawn"
    })
    .into_response())
}

/// What text messages are called here.
const TEXTS: &str = "Text message";

/// A channel that there is to choose.
struct Choice {
    /// Its place in `telecom`.
    place: usize,
    /// Whether it is about text messages to what is there as a mobile telephone.
    texts: bool,
    words: &'static str,
    address: String,
    wanted: bool,
}

/// How somebody gets text messages again from whose telephone STOP was sent.
fn how_to_start(from: Option<&str>) -> String {
    let to = match from {
        Some(from) => format!("to {from}"),
        None => "as an answer to one of our text messages".to_owned(),
    };
    format!(
        "STOP was sent from this number, so no text messages go to it. To get them again, send START from it {to}."
    )
}

impl Choice {
    /// Whether nothing is sent there whatever is chosen here.
    fn is_stopped(&self, stopped: &[String]) -> bool {
        let address = self.address.trim();
        self.words == TEXTS && stopped.iter().any(|number| number == address)
    }

    /// What the form calls it.
    fn name(&self) -> String {
        let texts = if self.texts { "t" } else { "" };
        format!("{texts}{}", self.place)
    }
}

/// The channels that there are to choose from.
fn channels(patient: &Resource) -> Vec<Choice> {
    let telecoms = patient
        .get("telecom")
        .and_then(Value::as_array)
        .map(Vec::as_slice)
        .unwrap_or_default();
    let own: Vec<(usize, &Value)> = (telecoms.iter().enumerate())
        .filter(|(_, telecom)| !is_extended(telecom, CONFIDENTIAL_EXTENSION))
        .collect();
    let takes_texts = |number: &str| {
        let mut own = own.iter();
        own.any(|(_, telecom)| {
            let value = telecom["value"].as_str();
            telecom["system"] == "sms" && value.is_some_and(|value| is_same_number(value, number))
        })
    };
    let mut found = Vec::new();
    for (place, telecom) in &own {
        let Some(address) = telecom["value"].as_str() else {
            continue;
        };
        let words = match telecom["system"].as_str() {
            Some("email") => "E-mail",
            Some("sms") => TEXTS,
            Some("phone") => "Phone call",
            _ => continue,
        };
        let choice = |texts, words| Choice {
            place: *place,
            texts,
            words,
            address: address.to_owned(),
            wanted: !unwanted(telecom),
        };
        found.push(choice(false, words));
        if telecom["system"] == "phone" && telecom["use"] == "mobile" && !takes_texts(address) {
            found.push(choice(true, TEXTS));
        }
    }
    found
}

fn unwanted(telecom: &Value) -> bool {
    is_extended(telecom, NOT_WANTED_EXTENSION)
}

fn is_extended(telecom: &Value, url: &str) -> bool {
    telecom["extension"].as_array().is_some_and(|extensions| {
        extensions
            .iter()
            .any(|extension| extension["url"] == url && extension["valueBoolean"] == true)
    })
}

/// The e-mail address that the patient wants used and no other (45 CFR 164.522(b)).
fn confidential(patient: &Resource) -> Option<&str> {
    let (kind, address) = asked(patient)?;
    (kind == "email").then_some(address)
}

/// Whether mail could be sent there; the mail server has the last word.
pub(crate) fn is_address(text: &str) -> bool {
    text.len() <= 254
        && text
            .bytes()
            .all(|byte| byte.is_ascii_graphic() && !b"<>,;()[]\"\\".contains(&byte))
        && text.split_once('@').is_some_and(|(who, place)| {
            !who.is_empty()
                && place.contains('.')
                && !place.contains('@')
                && !place.starts_with('.')
                && !place.ends_with('.')
        })
}

/// `GET /portal/preferences`.
pub(crate) async fn preferences(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    let permit = ctx
        .permit(Action::Read, Some(ResourceType::Patient), Some(patient))
        .await?;
    let own = ctx
        .vault()
        .read(&permit, ResourceType::Patient, patient)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)?
        .resource;
    let channels = channels(&own);
    let confidential = confidential(&own);
    let only = only_words(&own, ctx.times.care_ms);
    let stopped = crate::contact::stopped(&ctx, &own).await?;
    let from = ctx.vault().texts().from;
    let devices = super::devices::section(&ctx, only.is_some()).await?;
    let mut barred = barred(&ctx, &permit, &own).await?;
    barred.retain(|one| is_written_to(&ctx, &own, one.address.trim()));
    let body = html! {
        div class="stack-wide" {
            (said(&fields))
            h1 { "How we reach you" }
            p { "Your messages are always here in your inbox. Choose how else we may tell you that there is something new. What we send outside never says anything about your health." }
            p { a href="/portal/preferences/messages" { "Which messages you want" } ": what about, by which way, and when not." }
            @if let Some(only) = &only { p class="note" { "We reach you like this and in no other way, whatever is chosen below: " (only.replacen("Only", "only", 1)) "." } }
            @if channels.is_empty() { (layout::empty("No address of yours is recorded", "Tell your care team your e-mail address or phone number if you want to hear from us.")) }
            @else {
                form class="stack" method="post" action="/portal/preferences" {
                    (csrf(&ctx))
                    fieldset {
                        legend { "We may use" }
                        @for choice in &channels {
                            label class="choice" { input type="checkbox" name="wanted" value=(choice.name()) checked[choice.wanted]; span { (choice.words) br; span class="quiet small" { (choice.address) }
                                @if choice.is_stopped(&stopped) { br; span class="small" { (layout::state(State::Waiting, "Stopped")) " " (how_to_start(from.as_deref())) } }
                            } }
                        }
                    }
                    button class="primary" type="submit" { "Save" }
                }
            }
            (devices)
            @if !barred.is_empty() { (unwritten(&ctx, &barred)) }
            section class="stack" aria-labelledby="apart" {
                h2 id="apart" { "Only at one address" }
                p { "If others could read your messages, name an address that only you read. You need not say why." }
                form class="fields" method="post" action="/portal/preferences" {
                    (csrf(&ctx))
                    input type="hidden" name="do" value="confidential";
                    label { "E-mail address" @if only.is_some() { span class="hint" { "It takes the place of the one above" } } input type="text" inputmode="email" name="address" value=[confidential] required maxlength="254" autocomplete="off"; }
                    button type="submit" { "Use this address alone" }
                }
                @if only.is_some() {
                    form method="post" action="/portal/preferences" {
                        (csrf(&ctx))
                        input type="hidden" name="do" value="as-before";
                        button type="submit" { "Use all my addresses again" }
                    }
                }
            }
        }
    };
    Ok(portal(
        &ctx,
        "How we reach you",
        Some(PortalSection::Preferences),
        None,
        &body,
    ))
}

/// The addresses that no e-mail goes to, whatever is chosen, and why.
fn unwritten(ctx: &Ctx, barred: &[Barred]) -> Markup {
    html! {
        section class="stack" aria-labelledby="unwritten" {
            h2 id="unwritten" { "E-mail that we have stopped" }
            @for one in barred {
                div class="card stack" {
                    p { (layout::state(State::Waiting, "Stopped")) " " span class="strong" { (one.address) } }
                    @if one.is_unwanted() {
                        p { "Somebody who reads e-mail there said that they do not want ours. They may have marked a message of ours as spam. We send nothing there until you say so." }
                        form method="post" action="/portal/preferences" {
                            (csrf(ctx))
                            input type="hidden" name="do" value="again";
                            input type="hidden" name="address" value=(one.address);
                            button type="submit" { "Send e-mail there again" }
                        }
                    } @else {
                        p { "What we sent there came back, so we send nothing there. If the address is wrong, or works again, please tell your care team." }
                    }
                }
            }
        }
    }
}

/// The patient wants e-mail again at an address from which somebody complained. That a mailbox is not there is nothing that
/// they can take back.
async fn wants_again(ctx: &Ctx, patient: &str, address: &str) -> Result<Response, PageError> {
    let kind = Some(ResourceType::Patient);
    let permit = ctx.permit(Action::Work, kind, Some(patient)).await?;
    let own = ctx.vault().load(&permit, ResourceType::Patient, patient);
    let own = own.await?.filter(|found| !found.deleted);
    let own = own.ok_or(PageError::NotFound)?.resource;
    let of = (patient, address);
    let is_done = is_written_to(ctx, &own, address)
        && clear(ctx, &permit, of, Some(AddressTrouble::Complained)).await?;
    let said = if is_done { "?said=saved" } else { "" };
    Ok(Redirect::to(&format!("/portal/preferences{said}")).into_response())
}

/// Whether an address is one that the patient is reached at, were nothing known against it.
fn is_written_to(ctx: &Ctx, patient: &Resource, address: &str) -> bool {
    let channels = trust::consent::channels(patient, ctx.times.care_ms);
    let mut channels = channels.iter();
    channels.any(|channel| channel.kind == "email" && channel.address == address)
}

/// `POST /portal/preferences`.
pub(crate) async fn set_preferences(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?.to_owned();
    if let Some(done) = super::devices::set(&ctx, &fields).await? {
        return Ok(done);
    }
    if fields.get("do") == Some("again") {
        let address = fields.get("address").unwrap_or_default();
        return wants_again(&ctx, &patient, address).await;
    }
    let only = match fields.get("do") {
        Some("confidential") => {
            let address = fields.get("address").filter(|address| is_address(address));
            let address = address
                .ok_or_else(|| PageError::Invalid("That is no e-mail address.".to_owned()))?;
            Some(Some(("email", address)))
        }
        Some("as-before") => Some(None),
        _ => None,
    };
    if let Some(only) = only {
        change(
            &ctx,
            ResourceType::Patient,
            &patient,
            "confidential communications chosen in the portal",
            |own| {
                // Whoever wrote the one before down, there is one.
                set_asked(own, only);
                Ok(Vec::new())
            },
        )
        .await?;
        return Ok(Redirect::to("/portal/preferences?said=saved").into_response());
    }
    let wanted: Vec<&str> = fields.all("wanted").collect();
    change(
        &ctx,
        ResourceType::Patient,
        &patient,
        "channels chosen in the portal",
        |own| {
            choose(own, &wanted);
            Ok(Vec::new())
        },
    )
    .await?;
    Ok(Redirect::to("/portal/preferences?said=saved").into_response())
}

/// Writes down which of the channels are wanted, as the form calls them.
fn choose(own: &mut Resource, wanted: &[&str]) {
    let choices = channels(own);
    let is_wanted = |choice: &Choice| wanted.contains(&choice.name().as_str());
    if let Some(Value::Array(telecoms)) = own.members_mut().get_mut("telecom") {
        for choice in choices.iter().filter(|choice| !choice.texts) {
            set_wanted(&mut telecoms[choice.place], is_wanted(choice));
        }
    }
    // Calls may be wanted where text messages are not, and the other way round.
    for choice in choices.iter().filter(|choice| choice.texts) {
        let is_it = |number: &str| number == choice.address;
        set_texts_wanted(own, is_it, is_wanted(choice));
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    #[test]
    fn calls_are_chosen_without_text_messages() {
        let mut patient = Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "telecom": [
                { "system": "email", "value": "a@example.com" },
                { "system": "phone", "use": "mobile", "value": "+1 617 555 0100" },
            ]
        }))
        .unwrap();
        let shown = |patient: &Resource| {
            let all = channels(patient).into_iter();
            let all = all.map(|one| format!("{} {} {}", one.name(), one.words, one.wanted));
            all.collect::<Vec<_>>()
        };
        let before = ["0 E-mail true", "1 Phone call true", "t1 Text message true"];
        assert_eq!(shown(&patient), before);
        choose(&mut patient, &["0", "1", "t1"]);
        assert_eq!(shown(&patient), before);
        choose(&mut patient, &["0", "1"]);
        let after = ["0 E-mail true", "1 Phone call true", "2 Text message false"];
        assert_eq!(shown(&patient), after);
        choose(&mut patient, &["0", "1", "2"]);
        assert_eq!(
            shown(&patient),
            ["0 E-mail true", "1 Phone call true", "2 Text message true"]
        );
        choose(&mut patient, &["2"]);
        assert_eq!(
            shown(&patient),
            [
                "0 E-mail false",
                "1 Phone call false",
                "2 Text message true"
            ]
        );
    }

    #[test]
    fn text_messages_are_chosen_without_calls() {
        let mut patient = Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "telecom": [{ "system": "phone", "use": "mobile", "value": "+1 617 555 0100" }]
        }))
        .unwrap();
        choose(&mut patient, &["t0"]);
        let texts = trust::consent::texts(&patient, 0);
        assert!(texts.len() == 1 && texts[0].wanted, "{texts:?}");
    }

    #[test]
    fn channels_are_switched_without_touching_the_rest() {
        let mut telecom = json!({ "system": "email", "value": "a@example.com", "extension": [{ "url": "urn:other", "valueString": "x" }] });
        set_wanted(&mut telecom, false);
        assert!(unwanted(&telecom));
        set_wanted(&mut telecom, false);
        assert_eq!(telecom["extension"].as_array().unwrap().len(), 2);
        set_wanted(&mut telecom, true);
        assert!(!unwanted(&telecom));
        assert_eq!(
            telecom["extension"],
            json!([{ "url": "urn:other", "valueString": "x" }])
        );
    }
}
