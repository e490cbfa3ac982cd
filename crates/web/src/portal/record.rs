//! Who has looked at my record: the patient's own audit, in sentences, each with its proof.

use axum::extract::Path;
use axum::response::Response;
use fhir::ResourceType;
use ledger::Number;
use maud::{Markup, html};
use trust::{Action, Permit, Relation, Role, Versioned};

use crate::audit::{proof_file, proof_words, prove};
use crate::context::{Ctx, Fields, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, portal};
use crate::sentence::Sentence;

/// Lines on a page.
const PAGE: usize = 50;

async fn permit(ctx: &Ctx, action: Action) -> Result<Permit, PageError> {
    ctx.permit(
        action,
        Some(ResourceType::AuditEvent),
        Some(ctx.patient_alone()?),
    )
    .await
}

/// Who, so that programs are told from people.
fn actor(sentence: &Sentence) -> String {
    if sentence.role == Some(Role::Patient) {
        // What is of several patients, one of them may see.
        "Another patient".to_owned()
    } else if sentence.role == Some(Role::System) {
        format!("A program of ours ({})", sentence.who.replace('-', " "))
    } else {
        sentence.actor()
    }
}

/// The sentence in the second person.
fn plain(patient: &str, sentence: &Sentence) -> Markup {
    let who = sentence.own_patient.as_deref();
    let own = sentence.role == Some(Role::Patient) && who.is_none_or(|who| who == patient);
    let purpose = match sentence.purpose.as_str() {
        "TREAT" => "to treat you",
        "CAREMGT" => "to look after you",
        "PATRQT" => "",
        _ => sentence.purpose_words(),
    };
    html! {
        span class="strong" { @if own { "You" @if let Some(app) = &sentence.app { ", through the app " (app) "," } } @else { (actor(sentence)) } }
        " " (sentence.plain())
        @if !own && !purpose.is_empty() { " " (purpose) }
        @if sentence.refused { ". " span class="refused" { "This was not allowed, and did not happen." } } @else { "." }
    }
}

/// Puts the words of emergency accesses into their lines; the audit has none.
async fn tell(ctx: &Ctx, permit: &Permit, sentence: &mut Sentence) -> Result<(), PageError> {
    if let Some(id) = sentence.emergency() {
        let identity = ctx.app.web.trust.identity();
        let access = identity.emergency_told(permit, id).await?;
        sentence.tell_emergency(access.as_ref());
    }
    Ok(())
}

/// Names those who acted for the patient: the audit, which outlives the patient's key, has their ids.
async fn name_proxies(
    ctx: &Ctx,
    permit: &Permit,
    sentences: &mut [Sentence],
) -> Result<(), PageError> {
    let by_proxy = |sentence: &Sentence| sentence.role == Some(Role::Proxy);
    if !sentences.iter().any(by_proxy) {
        return Ok(());
    }
    let identity = ctx.app.web.trust.identity();
    let proxies = identity.proxies(permit, ctx.patient_alone()?).await?;
    for sentence in sentences.iter_mut().filter(|one| by_proxy(one)) {
        let found = proxies.iter().find(|proxy| proxy.id == sentence.who_id);
        sentence.who = found.map_or_else(String::new, |proxy| proxy.name.clone());
    }
    Ok(())
}

/// What explains that somebody looked, in plain words, and what was found where nothing did.
async fn because(
    ctx: &Ctx,
    permit: &Permit,
    sentence: &Sentence,
) -> Result<Option<Markup>, PageError> {
    let own = ctx.patient_alone()?;
    let told = sentence.relations.iter().find(|(one, _)| one == own);
    let Some((_, told)) = told else {
        return Ok(None);
    };
    let relation = ctx.vault().relation_told(told);
    let review = match relation {
        Relation::None | Relation::Unknown => {
            let identity = ctx.app.web.trust.identity();
            identity.access_review_told(permit, &sentence.id).await?
        }
        _ => None,
    };
    Ok(Some(html! {
        span class="small" {
            @match relation {
                Relation::By(words) => { "Because " (words) "." },
                Relation::Emergency => { "Because somebody opened it in an emergency." },
                Relation::None => { "No reason is on record. They may have had one that is not written down." },
                Relation::Unknown => { "At that time we could not tell why." },
            }
            @if let Some(review) = review {
                " We looked into it and found " @if review.explained { "a reason" } @else { "no reason" }
                @if let Some(words) = &review.words { ": “" (words) "”" } @else { "." }
            }
        }
    }))
}

struct Found {
    sentences: Vec<Sentence>,
    next: Option<Number>,
}

/// One page of lines. What the patient did themselves is left out unless `own`. What an application did for them is
/// nothing that they saw happen, and stays.
async fn find(
    ctx: &Ctx,
    permit: &Permit,
    before: Option<Number>,
    own: bool,
) -> Result<Found, PageError> {
    let patient = format!("Patient/{}", ctx.patient_alone()?);
    let query = query(ResourceType::AuditEvent, &[("patient", &patient)], PAGE)?;
    let vault = ctx.vault();
    let page = match own {
        true => vault.search(permit, &query, before).await?,
        false => vault.search_others_acts(permit, &query, before).await?,
    };
    let sentence = |row: &Versioned| Sentence::of(&row.resource);
    Ok(Found {
        sentences: page.rows.iter().map(sentence).collect(),
        next: page.next,
    })
}

/// `GET /portal/record`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    let permit = permit(&ctx, Action::Search).await?;
    let before = fields
        .get("before")
        .and_then(|number| number.parse().ok())
        .map(Number);
    let own = fields.get("own") == Some("yes");
    // Further pages can be empty where earlier ones were not.
    let is_first = before.is_none();
    let mut found = find(&ctx, &permit, before, own).await?;
    for sentence in &mut found.sentences {
        tell(&ctx, &permit, sentence).await?;
    }
    name_proxies(&ctx, &permit, &mut found.sentences).await?;
    let mut reasons = Vec::with_capacity(found.sentences.len());
    for sentence in &found.sentences {
        reasons.push(because(&ctx, &permit, sentence).await?);
    }
    let body = html! {
        div class="stack-wide" {
            div class="stack" {
                h1 { "Who looked at your record" }
                p { "Every time a person looks at your record or changes it, it is written down here, and so is what our programs change. If somebody changed a line or took one out, the proofs that people have kept would no longer fit. If a line surprises you, please ask us." }
                p class="quiet" {
                    @if own { "What you did yourself is shown too. " a href="/portal/record" { "Leave it out" } }
                    @else { "What you did yourself is left out. " a href="/portal/record?own=yes" { "Show it too" } }
                }
            }
            @if found.sentences.is_empty() && found.next.is_none() { (layout::empty("Nothing here", if is_first { "Nobody has looked at your record." } else { "There is nothing further." })) }
            ol {
                @for (sentence, reason) in found.sentences.iter().zip(&reasons) {
                    li class="sentence" {
                        span { (plain(patient, sentence)) }
                        @if let Some(reason) = reason { (reason) }
                        span class="quiet small" { (ctx.times.plain(sentence.at_ms)) " · " a href={ "/portal/record/" (sentence.id) } { "Proof" span class="visually-hidden" { " of " (ctx.times.exact(sentence.at_ms)) } } }
                    }
                }
            }
            @if let Some(next) = found.next { p { a class="button" href={ "/portal/record?before=" (next.0) @if own { "&own=yes" } } { "Older" } } }
        }
    };
    Ok(portal(
        &ctx,
        "Who looked at your record",
        Some(PortalSection::Record),
        None,
        &body,
    ))
}

/// `GET /portal/record/{id}`: one line with its proof.
pub(crate) async fn proof(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let patient = ctx.patient_alone()?;
    let permit = permit(&ctx, Action::Read).await?;
    let (found, proof) = prove(&ctx, &permit, &id).await?;
    let mut sentence = Sentence::of(&found.resource);
    let of_emergency = sentence.emergency().is_some();
    tell(&ctx, &permit, &mut sentence).await?;
    name_proxies(&ctx, &permit, std::slice::from_mut(&mut sentence)).await?;
    let body = html! {
        div class="stack-wide" {
            div {
                p class="crumbs" { a href="/portal/record" { "Who looked at your record" } }
                h1 { "Proof of one line" }
            }
            p { (plain(patient, &sentence)) br; @if let Some(reason) = because(&ctx, &permit, &sentence).await? { (reason) br; } span class="quiet small" { (ctx.times.exact(sentence.at_ms)) } }
            p { "This proof shows that the line stands in our books in these words, and was not changed since. You can keep it, and give it to anybody who should check it." }
            @if of_emergency { p { "The reason, and what a review said, are kept with your record and not in those books: the proof shows that the access or its review was there, not these words." } }
            (proof_words(&proof, &format!("/portal/record/{id}/proof.json")))
        }
    };
    Ok(portal(
        &ctx,
        "Proof",
        Some(PortalSection::Record),
        None,
        &body,
    ))
}

/// `GET /portal/record/{id}/proof.json`.
pub(crate) async fn proof_json(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let permit = permit(&ctx, Action::Read).await?;
    proof_file(&id, &prove(&ctx, &permit, &id).await?.1)
}
