//! The patient's own pages: what is next first, in plain words.

pub(crate) mod choices;
mod devices;
pub(crate) mod forms;
mod items;
pub(crate) mod languages;
pub(crate) mod messages;
pub(crate) mod proxies;
pub(crate) mod record;
pub(crate) mod sessions;
pub(crate) mod visits;
pub(crate) mod weight;

use axum::http::HeaderMap;
use axum::response::Response;
use fhir::{Resource, ResourceType};
use journey::InstanceView;
use ledger::{Expected, LedgerError, Owner};
use maud::{Markup, html};
use trust::{Action, Change, TrustError, Unit};

use crate::context::{Ctx, Fields, Watching, query};
use crate::error::PageError;
use crate::layout::{self, PortalSection, State, portal};
use crate::live::{self, Parts};
use crate::patient::{chart, of_a_record};
use crate::time::{relative, signed};
use crate::worklist::last_event_id;

use items::{Item, Kind};

/// Resources of one type that the pages of one patient read.
const PER_TYPE_MAX: usize = 500;
/// Planned steps told.
const PLANNED_MAX: usize = 6;
/// Tries of a change that others keep overtaking.
const TRIES: usize = 4;

/// Changes one resource of the patient's, together with others that the change brings about.
/// `change` gets the newest version and the time, and says what else to write; it may refuse.
pub(crate) async fn change(
    ctx: &Ctx,
    kind: ResourceType,
    id: &str,
    note: &str,
    mut change: impl FnMut(&mut Resource) -> Result<Vec<Change>, PageError>,
) -> Result<(), PageError> {
    let patient = ctx.own_patient()?.to_owned();
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let permit = ctx.permit(Action::Work, Some(kind), Some(&patient)).await?;
    let mut tries = 0;
    loop {
        let found = ctx
            .vault()
            .load(&permit, kind, id)
            .await?
            .filter(|found| !found.deleted)
            .ok_or(PageError::NotFound)?;
        let mut resource = found.resource;
        let others = change(&mut resource)?;
        resource.strip_meta();
        let mut changes = vec![Change::Put {
            resource,
            expected: Expected::Version(found.version),
        }];
        changes.extend(others);
        let unit = Unit {
            changes,
            note: Some(note.to_owned()),
            patient: Some(patient.clone()),
            ..Unit::default()
        };
        match ctx.vault().commit(&permit, unit).await {
            Ok(_) => return Ok(()),
            Err(TrustError::Ledger(LedgerError::Conflict)) if tries < TRIES => tries += 1,
            Err(error) => return Err(error.into()),
        }
    }
}

/// What the home page is made from.
struct Home {
    name: String,
    items: Vec<Item>,
    unread: Vec<(String, String, i64)>,
    /// The newest weight: when, kilograms.
    weight: Option<(i64, f64)>,
    journeys: Vec<InstanceView>,
}

async fn load(ctx: &Ctx) -> Result<Home, PageError> {
    let patient = ctx.own_patient()?;
    let permit = ctx.permit(Action::Search, None, Some(patient)).await?;
    let queries = [
        query(ResourceType::Patient, &[("_id", patient)], 1)?,
        query(
            ResourceType::Task,
            &[("patient", patient), ("status", crate::tasks::OPEN)],
            PER_TYPE_MAX,
        )?,
        query(
            ResourceType::Appointment,
            &[
                ("patient", patient),
                ("status", "proposed,pending,booked,arrived"),
            ],
            PER_TYPE_MAX,
        )?,
        query(
            ResourceType::Communication,
            &[("patient", patient), ("status", messages::STATUSES)],
            PER_TYPE_MAX,
        )?,
        weight::query(patient, 20)?,
    ];
    let mut pages = ctx
        .vault()
        .search_many(&permit, &queries)
        .await?
        .into_iter()
        .map(|page| {
            page.rows
                .into_iter()
                .map(|row| row.resource)
                .collect::<Vec<_>>()
        });
    let mut next = || pages.next().unwrap_or_default();
    let (own, tasks, visits, communications) = (next(), next(), next(), next());
    let weights = next();
    let weight = chart::weights(&ctx.times, &weights.iter().collect::<Vec<_>>()).pop();
    let journeys = ctx.app.web.journeys.of_patient(&permit, patient).await?;
    let own = own.first().ok_or(PageError::NotFound)?;
    let mut items: Vec<Item> = tasks
        .iter()
        .filter_map(|task| items::of_task(ctx, own, task))
        .chain(
            visits
                .iter()
                .filter_map(|visit| items::of_visit(ctx, visit)),
        )
        .collect();
    items.sort_by_key(Item::order);
    let unread = messages::inbox(ctx, &communications)
        .into_iter()
        .filter(|message| message.unread)
        .map(|message| (message.id, message.title, message.at_ms))
        .collect();
    Ok(Home {
        name: given_name(own),
        items,
        unread,
        weight,
        journeys,
    })
}

/// How to address somebody: their first given name, else nothing.
fn given_name(patient: &Resource) -> String {
    patient
        .text_at(&["name", "0", "given", "0"])
        .unwrap_or_default()
        .to_owned()
}

/// The first thing on the page: what, when, where, what to prepare.
fn next_card(ctx: &Ctx, home: &Home) -> Markup {
    let now = ctx.times.care_ms;
    if let Some(item) = home.items.first() {
        return html! {
            section class="card next stack" aria-labelledby="next" {
                @match item.kind {
                    Kind::Form | Kind::Offer => (layout::state(State::NeedsYou, "Please do this")),
                    Kind::Visit => (layout::state(State::Waiting, "Coming up")),
                }
                h2 id="next" lang=[item.lang.as_deref()] { (item.title) }
                dl class="facts" {
                    @match item.kind {
                        Kind::Form => { @if let Some(due) = item.at_ms { dt { "Until" } dd { (ctx.times.plain(due)) ", " (ctx.times.ago(due)) } } },
                        Kind::Offer | Kind::Visit => { @if let Some(at) = item.at_ms { dt { "When" } dd { (ctx.times.plain(at)) ", " (ctx.times.ago(at)) } } },
                    }
                    @if let Some(minutes) = item.minutes { dt { "How long" } dd { "about " (minutes) " minutes" } }
                    @if let Some(place) = &item.place { dt { "Where" } dd { (place) } }
                    @if let Some(by) = item.by_ms { dt { "Answer by" } dd { (ctx.times.plain(by)) } }
                }
                @if let Some(words) = &item.words { p class="words" { (words) } }
                p { a class="button primary" href=(item.href) {
                    @match item.kind { Kind::Form => "Answer the questions", Kind::Offer => "Accept or decline", Kind::Visit => "See the visit" }
                } }
            }
        };
    }
    let planned = home
        .journeys
        .iter()
        .filter(|journey| journey.ended.is_none())
        .flat_map(|journey| &journey.planned)
        .filter(|step| !step.plain.is_empty())
        .min_by_key(|step| step.at_ms);
    html! {
        section class="card next stack" aria-labelledby="next" {
            @if let Some(step) = planned {
                (layout::state(State::Waiting, "Nothing to do now"))
                h2 id="next" { (step.plain) }
                p { "Around " (ctx.times.plain_date(signed(step.at_ms))) ", " (relative(signed(step.at_ms), now)) "." }
            } @else {
                (layout::state(State::Done, "Nothing to do"))
                h2 id="next" { "There is nothing you need to do" }
                p { "We will write to you when there is. If you feel unwell, do not wait for us: call your doctor or the emergency number." }
            }
        }
    }
}

fn home_part(ctx: &Ctx, home: &Home) -> Markup {
    let running: Vec<&InstanceView> = home
        .journeys
        .iter()
        .filter(|journey| journey.ended.is_none())
        .collect();
    let now = ctx.times.care_ms;
    html! {
        div id="portal-home" class="stack-wide" {
            (next_card(ctx, home))
            @if home.items.len() > 1 {
                section class="stack" aria-labelledby="also" {
                    h2 id="also" { "Also" }
                    ul class="links" {
                        @for item in &home.items[1..] {
                            li { a href=(item.href) lang=[item.lang.as_deref()] { (item.title) } @if let Some(at) = item.at_ms { p class="quiet small" { @if item.kind == Kind::Form { "until " } (ctx.times.plain(at)) ", " (ctx.times.ago(at)) } } }
                        }
                    }
                }
            }
            section class="stack" aria-labelledby="messages" {
                h2 id="messages" { "Messages" }
                @if home.unread.is_empty() { p { "No new messages. " a href="/portal/inbox" { "Read older ones" } "." } }
                @else {
                    ul class="links" {
                        @for (id, title, at_ms) in home.unread.iter().take(5) {
                            li { a class="strong" href={ "/portal/inbox/" (id) } { (title) } p class="quiet small" { "new, " (ctx.times.ago(*at_ms)) } }
                        }
                    }
                    @if home.unread.len() > 5 { p { a href="/portal/inbox" { "All " (home.unread.len()) " new messages" } } }
                }
            }
            (weight::teaser(ctx, home.weight, !running.is_empty()))
            @for journey in &running {
                @let planned: Vec<_> = journey.planned.iter().filter(|step| !step.plain.is_empty()).take(PLANNED_MAX).collect();
                @let waiting: Vec<_> = journey.waiting.iter().filter(|wait| !wait.plain.is_empty()).collect();
                section class="stack" aria-labelledby={ "j-" (journey.id) } {
                    h2 id={ "j-" (journey.id) } { (journey.title) }
                    p { "You have been in this follow-up for " (crate::patient::since_words(now, signed(journey.started_ms))) "." }
                    @if !waiting.is_empty() { ul { @for wait in &waiting { li class="line" { (wait.plain) } } } }
                    @if !planned.is_empty() {
                        h3 { "What comes then" }
                        ol class="links" {
                            @for step in planned { li { span class="line" { (step.plain) br; span class="quiet small" { (ctx.times.plain_date(signed(step.at_ms))) ", " (ctx.times.ago(signed(step.at_ms))) } } } }
                        }
                    }
                }
            }
        }
    }
}

async fn parts(ctx: &Ctx) -> Result<(Home, Parts), PageError> {
    let home = load(ctx).await?;
    let part = home_part(ctx, &home);
    Ok((home, vec![("portal-home", part)]))
}

/// What was just done, in a word; codes come from the address.
pub(crate) fn said(fields: &Fields) -> Markup {
    let words = match fields.get("said") {
        Some("answered") => "Thank you. Your answers are with your care team.",
        Some("booked") => "Your visit is booked.",
        Some("declined") => "You have declined the visit. Your care team will be in touch.",
        Some("given") => "Thank you. You have said yes.",
        Some("withdrawn") => "You have said no. It counts from now on.",
        Some("weighed") => "Your weight is noted.",
        Some("saved") => "Your choice is saved.",
        Some("ended") => "They don't act for you any more. It counts from now on.",
        _ => return html! {},
    };
    html! { div class="flash" role="status" { (layout::state(State::Done, "Done")) (words) } }
}

/// `GET /portal`.
pub(crate) async fn home(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.own_patient()?;
    let live = live::address(&ctx, "/portal/live", "");
    let (home, parts) = parts(&ctx).await?;
    let body = html! {
        div class="stack-wide" {
            (said(&fields))
            div class="spread" { h1 { @if ctx.role() == trust::Role::Proxy { "What is next" } @else if home.name.is_empty() { "Hello" } @else { "Hello, " (home.name) } } (layout::live_light()) }
            @for (_, part) in &parts { (part) }
        }
    };
    Ok(portal(
        &ctx,
        "What is next",
        Some(PortalSection::Home),
        Some(&live),
        &body,
    ))
}

/// `GET /portal/live`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    ctx.permit(Action::Search, None, Some(&patient)).await?;
    let shard = ctx.app.ledger().shard_of(
        ctx.app.web.tenant,
        &Owner::Patient(patient.clone()),
        &patient,
    );
    let source = live::Source {
        shard: Some(shard),
        matters: of_a_record,
        render: Box::new(|ctx| Box::pin(async move { Ok(parts(&ctx).await?.1) })),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}
