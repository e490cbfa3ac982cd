//! One patient: who they are, where in the journey, and everything in one stream of time.

pub(crate) mod attempts;
pub(crate) mod chart;
pub(crate) mod facts;
mod timeline;
pub(crate) mod words;

use std::collections::BTreeSet;
use std::sync::Arc;

use axum::extract::Path;
use axum::http::HeaderMap;
use axum::response::Response;
use fhir::{Resource, ResourceType};
use journey::{Beginnings, InstanceView};
use ledger::{Kind, Owner};
use maud::{Markup, html};
use trust::conventions::{BODY_WEIGHT, LOINC};
use trust::identity::EmergencyAccess;
use trust::{Action, Role, kinds};

use crate::context::{Ctx, Fields, Watching, query};
use crate::error::PageError;
use crate::layout::{self, Section, State, console};
use crate::live::{self, Parts};
use crate::tasks::{TaskRow, flash};
use crate::time::{self, duration, signed};
use crate::worklist::{last_event_id, patient_name};

use facts::Group;

/// Resources of one type that are read for a timeline, newest first; with more, the page says so.
const PER_TYPE_MAX: usize = 500;
/// Beginnings of journeys that the head shows of each sort; it says how many there are besides.
const BEGINNINGS_SHOWN: usize = 8;
/// Weights read for the chart.
const WEIGHTS_MAX: usize = 200;

/// Everything that a patient's page shows.
struct View {
    patient: Resource,
    /// Addresses that are not written to any more.
    barred: Vec<crate::contact::Barred>,
    allergies: Vec<String>,
    tasks: Vec<TaskRow>,
    weights: Vec<(i64, f64)>,
    journeys: Vec<InstanceView>,
    beginnings: Beginnings,
    timeline: Markup,
    /// Resource types of which there is more than was read.
    cut: Vec<&'static str>,
    /// Whether the patient's consent may hide entries from who looks.
    by_consents: bool,
    /// Whether what is clinical is kept for want of a relationship.
    unrelated: bool,
    /// Why entries with a label would not be shown, if there were any.
    labels: Vec<String>,
    /// Whether an emergency access would open something.
    opens: bool,
    /// The emergency access under which it is shown.
    emergency: Option<EmergencyAccess>,
    /// Numbers that have sent STOP.
    stopped: Vec<String>,
}

/// Which kinds are asked for; none means all.
fn shown(fields: &Fields) -> Vec<Group> {
    fields.all("show").filter_map(Group::parse).collect()
}

fn types(shown: &[Group]) -> Vec<ResourceType> {
    let wanted: BTreeSet<ResourceType> = Group::ALL
        .iter()
        .filter(|(group, ..)| shown.is_empty() || shown.contains(group))
        .flat_map(|(group, ..)| group.types().iter().copied())
        .collect();
    wanted.into_iter().collect()
}

async fn view(ctx: &Ctx, id: &str, fields: &Fields) -> Result<View, PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let shown = shown(fields);
    let permit = ctx.permit(Action::Search, None, Some(id)).await?;
    let mut wanted = types(&shown);
    // The head shows open tasks, and says when a consent hides entries, whatever the filter says.
    for always in [ResourceType::Task, ResourceType::Consent] {
        if !wanted.contains(&always) {
            wanted.push(always);
        }
    }
    let weight_code = format!("{LOINC}|{BODY_WEIGHT}");
    let with_weights = shown.is_empty() || shown.contains(&Group::Measurements);
    let mut queries = vec![
        query(ResourceType::Patient, &[("_id", id)], 1)?,
        query(
            ResourceType::AllergyIntolerance,
            &[("patient", id)],
            PER_TYPE_MAX,
        )?,
    ];
    if with_weights {
        queries.push(query(
            ResourceType::Observation,
            &[("patient", id), ("code", &weight_code)],
            WEIGHTS_MAX,
        )?);
    }
    let first_fact = queries.len();
    for kind in &wanted {
        queries.push(query(*kind, &[("patient", id)], PER_TYPE_MAX)?);
    }
    let mut pages = ctx.vault().search_many(&permit, &queries).await?;
    let cut = pages
        .iter()
        .zip(&queries)
        .skip(first_fact)
        .filter(|(page, _)| page.next.is_some())
        .map(|(_, query)| query.kind.name())
        .collect();
    let facts: Vec<Resource> = pages
        .split_off(first_fact)
        .into_iter()
        .flat_map(|page| page.rows)
        .map(|row| row.resource)
        .collect();
    let weights = if with_weights {
        let rows = pages.pop().map(|page| page.rows).unwrap_or_default();
        chart::weights(
            &ctx.times,
            &rows.iter().map(|row| &row.resource).collect::<Vec<_>>(),
        )
    } else {
        Vec::new()
    };
    let allergies: Vec<Resource> = pages
        .pop()
        .map(|page| page.rows)
        .unwrap_or_default()
        .into_iter()
        .map(|row| row.resource)
        .collect();
    let patient = pages
        .pop()
        .and_then(|page| page.rows.into_iter().next())
        .ok_or(PageError::NotFound)?
        .resource;
    let journeys = ctx.app.web.journeys.of_patient(&permit, id).await?;
    let beginnings = ctx.app.web.journeys.beginnings(&permit, id).await?;

    let barred = crate::contact::barred(ctx, &permit, &patient).await?;
    let now = ctx.times.care_ms;
    let kept = ctx.vault().kept_from(&permit, id, permit.purpose()).await?;
    // Where rules say that an emergency access opens nothing it is offered, too: what they can't foresee must not
    // cost a life, and its form says so.
    let opens = ctx.role() == Role::Clinician && !kept.is_nothing();
    let mut tasks: Vec<TaskRow> = facts
        .iter()
        .filter(|fact| fact.kind() == ResourceType::Task && !facts::is_form(fact))
        .map(TaskRow::of)
        .filter(TaskRow::is_open)
        .collect();
    tasks.sort_by(|left, right| left.harm(now).cmp(&right.harm(now)));
    let asked = facts::forms(&facts);
    let entries = facts
        .iter()
        .filter_map(|fact| facts::entry(ctx, fact, &asked))
        .filter(|entry| shown.is_empty() || shown.contains(&entry.group))
        .collect();
    let page = fields
        .get("page")
        .and_then(|page| page.parse().ok())
        .unwrap_or(1);
    let with_journey = shown.is_empty() || shown.contains(&Group::Journey);
    let timeline = timeline::draw(
        &ctx.times,
        entries,
        &journeys,
        with_journey,
        page,
        &|page| address(id, &shown, page),
    );
    let stopped = crate::contact::stopped(ctx, &patient).await?;
    Ok(View {
        patient,
        barred,
        allergies: facts::allergies(&allergies),
        tasks,
        weights,
        journeys,
        beginnings,
        timeline,
        cut,
        by_consents: kept.by_consents,
        unrelated: kept.unrelated,
        labels: kept.labels,
        opens,
        emergency: ctx.emergency(id).await?,
        stopped,
    })
}

/// The address of a patient's page with these kinds.
fn address(id: &str, shown: &[Group], page: usize) -> String {
    let mut parts: Vec<String> = shown
        .iter()
        .filter_map(|group| Group::ALL.iter().find(|(candidate, ..)| candidate == group))
        .map(|(_, value, _)| format!("show={value}"))
        .collect();
    if page > 1 {
        parts.push(format!("page={page}"));
    }
    let joint = if parts.is_empty() { "" } else { "?" };
    format!("/console/patients/{id}{joint}{}", parts.join("&"))
}

fn where_in_journey(ctx: &Ctx, journey: &InstanceView) -> Markup {
    let started = signed(journey.started_ms);
    html! {
        div class={ "where" @if journey.ended.is_some() { " over" } } {
            p {
                a class="strong" href={ "/console/journeys/" (journey.journey) "?version=" (journey.version) } { (journey.title) }
                @match &journey.ended {
                    Some((at, reason)) => span class="quiet" { " ended " (ctx.times.ago(signed(*at))) ": " (reason) },
                    None => span class="quiet" { " · day " (ctx.times.days_between(started, ctx.times.care_ms)) " · version " (journey.version) },
                }
            }
            @if journey.ended.is_none() {
                @if journey.waiting.is_empty() { p { (layout::state(State::Running, "Moving on")) } }
                ul {
                    @for wait in &journey.waiting {
                        li {
                            (layout::state_line(if wait.what.starts_with("Watches") { State::Running } else { State::Waiting }, &wait.what))
                            span class="quiet" {
                                " · began " (ctx.times.ago(signed(wait.since_ms)))
                                @if let Some(until) = wait.until_ms { ", ends by itself " (ctx.times.ago(signed(until))) }
                            }
                        }
                    }
                }
            }
        }
    }
}

/// What is to begin by a date, and what did not begin; the first of each.
fn beginnings(ctx: &Ctx, found: &Beginnings) -> Markup {
    let more = |all: usize| all.saturating_sub(BEGINNINGS_SHOWN);
    html! {
        @if !found.ahead.is_empty() {
            details id="to-begin" {
                summary { "To begin (" (found.ahead.len()) ")" }
                ul {
                    @for one in found.ahead.iter().take(BEGINNINGS_SHOWN) {
                        li { (one.title) span class="quiet" { " begins " (ctx.times.ago(signed(one.at_ms))) } }
                    }
                    @if more(found.ahead.len()) > 0 { li class="quiet" { "and " (more(found.ahead.len())) " more" } }
                }
            }
        }
        @if !found.refused.is_empty() {
            details id="not-begun" {
                summary { "Did not begin (" (found.refused.len()) ")" }
                ul {
                    @for one in found.refused.iter().take(BEGINNINGS_SHOWN) {
                        li { (one.title) span class="quiet" { " " (ctx.times.ago(signed(one.at_ms))) ": " (one.why) } }
                    }
                    @if more(found.refused.len()) > 0 { li class="quiet" { "and " (more(found.refused.len())) " more" } }
                }
            }
        }
        @if found.unread > 0 {
            p id="beginnings-unread" class="quiet" { "What is to begin can't be read by this program for " (found.unread) @if found.unread == 1 { " journey." } @else { " journeys." } }
        }
        @if found.cut { p class="quiet" { "There are more journeys of which it is not shown here what is to begin." } }
    }
}

fn head(ctx: &Ctx, id: &str, view: &View, back: &str) -> Markup {
    let patient = &view.patient;
    let age = patient
        .text_at(&["birthDate"])
        .and_then(|born| fhir::human::age_years(born, ctx.times.care_ms));
    let running = view
        .journeys
        .iter()
        .filter(|journey| journey.ended.is_none())
        .count();
    html! {
        div id="patient-head" class="patient-head" {
            div class="stack" {
                div {
                    h1 { (patient_name(patient)) }
                    div class="facts-line" {
                        @if let Some(died) = facts::deceased(patient) { span class="alert" { "Died" @if !died.is_empty() { " " (died) } } }
                        @if let Some(age) = age { span { (age) " years" } }
                        @if let Some(born) = patient.text_at(&["birthDate"]) { span { "born " (time::day(born)) } }
                        span { (patient.text_at(&["gender"]).unwrap_or("sex not recorded")) }
                        @if let Some(number) = patient.text_at(&["identifier", "0", "value"]) { span { "no. " span class="mono" { (number) } } }
                    }
                    @if !view.allergies.is_empty() { p class="alert" { "Allergies: " (view.allergies.join(", ")) } }
                    @if view.by_consents || view.unrelated { p class="alert" { "Allergies may be hidden from your role" } }
                    @else if !view.labels.is_empty() { p class="quiet" { "Allergies with some labels are hidden from your role, if there are any" } }
                    @else if view.allergies.is_empty() { p class="quiet" { "No allergies recorded" } }
                }
                @for journey in view.journeys.iter().filter(|journey| journey.ended.is_none() || running == 0).take(3) { (where_in_journey(ctx, journey)) }
                @if view.journeys.is_empty() { p class="quiet" { "In no journey." } }
                (beginnings(ctx, &view.beginnings))
                @if running > 0 && crate::stopping::stops(ctx.role()) { p { a href={ "/console/patients/" (id) "/journeys" } { "Journeys by hand" } } }
                (crate::emergency::banner(ctx, id, view.emergency.as_ref(), view.opens))
            }
            div class="stack" {
                @if !view.tasks.is_empty() {
                    section class="card raised stack" aria-labelledby="needs" {
                        h2 id="needs" { "Needs somebody" }
                        @for task in &view.tasks {
                            div class="spread" {
                                div {
                                    (task.priority_mark()) " " span class="strong" { (task.title) }
                                    @if !task.reason.is_empty() { div class="quiet small" { (task.reason) } }
                                    @if let Some(due) = task.due_ms { div class="small" { span class=[task.overdue(ctx.times.care_ms).then_some("overdue")] { "due " (ctx.times.ago(due)) } @if let Some((_, name)) = &task.owner { " · with " (name) } } }
                                }
                                div class="acts cluster" { (task.actions(ctx, back)) }
                            }
                        }
                    }
                }
                (contacts(patient, ctx.times.care_ms, (&view.barred, &view.stopped)))
                @if ctx.role() == Role::Clinician { p { a href={ "/console/patients/" (id) "/contact" } { "Only one address or number" } " · " a href={ "/console/patients/" (id) "/messages" } { "Which messages" } } }
                @if ctx.role() == Role::PrivacyOfficer { p { a href={ "/console/audit?patient=" (id) } { "Who looked at this record" } } }
            }
        }
    }
}

fn contacts(
    patient: &Resource,
    now_ms: i64,
    (barred, stopped): (&[crate::contact::Barred], &[String]),
) -> Markup {
    let of = |address: &str| barred.iter().find(|one| one.address.trim() == address);
    let channels: Vec<_> = trust::consent::channels(patient, now_ms)
        .into_iter()
        .filter(|channel| !channel.address.is_empty())
        .collect();
    html! {
        @if let Some(only) = crate::contact::only_words(patient, now_ms) { p class="note" { (only) ". The patient asked for no other address or number to be used." } }
        @if !channels.is_empty() {
            dl class="facts" {
                @for channel in &channels {
                    dt { (match channel.kind.as_str() { "email" => "E-mail", "phone" => "Phone", "sms" => "Text message", other => other }) }
                    dd {
                        (channel.address)
                        @if !channel.wanted { " " span class="tag" { "not wanted" } }
                        @if stopped.contains(&channel.address) { " " span class="tag" { "sent STOP: gets no text messages" } }
                        @if let Some(barred) = of(&channel.address) { " " span class="tag" { "not written to" } span class="quiet small" { " " (barred.words()) } }
                    }
                }
            }
        }
        @for one in barred {
            @if let Some(whose) = &one.whose { p { "E-mail to " (whose) ", who acts for the patient: " span class="tag" { "not written to" } span class="quiet small" { " " (one.words()) } } }
        }
    }
}

fn stream_part(times: &time::Times, id: &str, view: &View, shown: &[Group]) -> Markup {
    html! {
        div id="timeline" class="stack" {
            @if let Some(weights) = chart::draw(times, &view.weights) { section aria-labelledby="weight" { h2 id="weight" { "Weight" } (weights) } }
            nav class="tabs" aria-label="Kinds of entries" {
                a href=(address(id, &[], 1)) aria-current=[shown.is_empty().then_some("true")] { "Everything" }
                @for (group, _, word) in Group::ALL {
                    a href=(address(id, &[group], 1)) aria-current=[shown.contains(&group).then_some("true")] { (word) }
                }
            }
            @if view.unrelated {
                p class="note" { "What is clinical is left out: nothing on record says that you have to do with this patient." }
            }
            @if view.by_consents {
                p class="note" { "The patient's consent keeps entries from your role, so this may not be the whole record." }
            }
            @if !view.cut.is_empty() {
                p class="note" { "Only the " (PER_TYPE_MAX) " entries recorded last are shown of: " (view.cut.join(", ")) "." }
            }
            (view.timeline)
            @for reason in &view.labels {
                p class="quiet small" { "Left out, if there are any: entries of which it is said: " (reason) "." }
            }
        }
    }
}

/// The parts of the page that are live.
async fn parts(ctx: &Ctx, id: &str, fields: &Fields) -> Result<Parts, PageError> {
    let view = view(ctx, id, fields).await?;
    let shown = shown(fields);
    let back = address(id, &shown, 1);
    Ok(vec![
        ("patient-head", head(ctx, id, &view, &back)),
        ("timeline", stream_part(&ctx.times, id, &view, &shown)),
    ])
}

/// `GET /console/patients/{id}`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let live = live::address(
        &ctx,
        &format!("/console/live/patients/{id}"),
        &fields.to_query(&["done", "claimed", "reopened", "after"]),
    );
    let parts = parts(&ctx, &id, &fields).await?;
    let back = address(&id, &shown(&fields), 1);
    let body = html! {
        div class="spread" {
            p class="crumbs" { a href="/console/patients" { "Patients" } " · " a href={ "/console/record/Patient/" (id) } { "As it is kept" } " · " a href={ "/console/patients/" (id) "/consents" } { "What consents allow" } " · " a href={ "/console/patients/" (id) "/proxies" } { "Who acts for them" } @if ctx.role().launches_apps() { " · " a href={ "/console/patients/" (id) "/apps" } { "Open in an app" } } }
            (layout::live_light())
        }
        (flash(&ctx, &fields, &back))
        @for (_, part) in &parts { (part) }
    };
    // The name stays out of the title, and so out of the browser's history.
    Ok(console(
        &ctx,
        "Patient",
        Section::Patients,
        Some(&live),
        &body,
    ))
}

/// `GET /console/live/patients/{id}`.
pub(crate) async fn stream(
    Watching(ctx): Watching,
    Path(id): Path<String>,
    fields: Fields,
    headers: HeaderMap,
) -> Result<Response, PageError> {
    ctx.staff()?;
    if !fhir::is_id(&id) {
        return Err(PageError::NotFound);
    }
    // Of the patient: roles that search a directory alone are told nothing of when something happens to one.
    ctx.permit(Action::Search, Some(ResourceType::Patient), Some(&id))
        .await?;
    let shard = ctx
        .app
        .ledger()
        .shard_of(ctx.app.web.tenant, &Owner::Patient(id.clone()), &id);
    let (shown, id) = (Arc::new(live::shown(&fields)), Arc::new(id));
    let source = live::Source {
        shard: Some(shard),
        matters: of_a_record,
        render: Box::new(move |ctx| {
            let (fields, id) = (shown.clone(), id.clone());
            Box::pin(async move { parts(&ctx, &id, &fields).await })
        }),
    };
    Ok(live::serve(ctx, &fields, last_event_id(&headers), source).await)
}

/// Whether an event can change what is seen of a patient. The audit's own events can't, and looking
/// at them would make reading cause reading.
pub(crate) fn of_a_record(kind: Kind) -> bool {
    match ResourceType::from_code(kind.0) {
        Some(kind) => kind != ResourceType::AuditEvent,
        None => [
            kinds::JOURNEY_INSTANCE,
            kinds::JOURNEY_TRAIL,
            kinds::EMERGENCY_ACCESS,
        ]
        .contains(&kind),
    }
}

/// How long ago, for people who are at a step.
pub(crate) fn since_words(now_ms: i64, since_ms: i64) -> String {
    duration((now_ms - since_ms).max(0))
}
