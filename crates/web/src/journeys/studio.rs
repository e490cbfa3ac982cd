//! The studio: a journey's file beside its graph, what the checker finds, what it changes against the version that
//! is live, and a simulated cohort. What is typed is shown and kept nowhere.

use std::future::Future;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use axum::response::Response;
use journey::{
    AgainstLive, Behaviour, Change, Definition, Finding, GraphView, Looked, Simulated, Size,
};
use maud::{Markup, html};
use tokio::sync::{OwnedSemaphorePermit, Semaphore, SemaphorePermit};
use trust::{Action, Permit, Role};

use super::{checks, cohort, spoken, title_of, typing};
use crate::assets;
use crate::context::{App, Ctx, Fields, Posted};
use crate::drawing;
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf, thousands};

const HERE: &str = "/console/studio";
const TITLE: &str = "Studio";
/// The id of the field that the file is typed in.
const FIELD: &str = "source";
/// How long a file is looked at, the wait for others included.
const LOOK_WITHIN: Duration = Duration::from_secs(10);
/// How long a cohort is led, the wait for others included.
const SIMULATE_WITHIN: Duration = Duration::from_secs(20);
/// Files that are looked at at once, for one organisation.
pub(crate) const LOOKS_MAX: usize = 2;
/// Cohorts that are led at once, for one organisation: each takes a processor.
pub(crate) const COHORTS_MAX: usize = 1;
/// Files that are looked at at once, for all of them.
static LOOKS: Semaphore = Semaphore::const_new(4);
/// Cohorts that are led at once, for all of them.
static COHORTS: Semaphore = Semaphore::const_new(2);
/// The largest cohort: a second or two of a processor for most journeys. Larger ones are for the command line.
const PATIENTS_MAX: u32 = 2_000;
const DAYS_MAX: u32 = 180;
const PATIENTS: u32 = 1_000;
const DAYS: u32 = 90;
/// Ways of the largest graph that is drawn: more can't be read, and takes long to lay out.
const WAYS_MAX: usize = 500;
/// What is said where a file could not be looked at in time.
pub(crate) const NOT_LOOKED_AT: &str = "The file could not be checked in time. Try again in a moment, or check it with cairn journey check.";
/// Changes that are listed at once, and characters of a value of one.
const CHANGES_MAX: usize = 80;
const VALUE_MAX: usize = 400;

/// Does work that takes a processor for a while, beside the threads that answer requests, when there is a place for
/// it, of the organisation's and then of all. Nothing where that took too long. The places are kept until the work has
/// really ended, and who waits for one keeps no thread.
async fn at_work<T: Send + 'static>(
    places: &Arc<Semaphore>,
    of_all: &'static Semaphore,
    within: Duration,
    work: impl Future<Output = T> + Send + 'static,
) -> Result<Option<T>, PageError> {
    let places = places.clone();
    let done = async move {
        let place = places.acquire_owned().await.ok()?;
        let of_all = of_all.acquire().await.ok()?;
        Some(beside((place, of_all), work).await)
    };
    match tokio::time::timeout(within, done).await {
        Ok(Some(Ok(done))) => Ok(Some(done)),
        Ok(Some(Err(_))) => Err(PageError::Internal(
            "work of the studio broke off".to_owned(),
        )),
        Ok(None) | Err(_) => Ok(None),
    }
}

async fn beside<T: Send + 'static>(
    places: (OwnedSemaphorePermit, SemaphorePermit<'static>),
    work: impl Future<Output = T> + Send + 'static,
) -> Result<T, tokio::task::JoinError> {
    let runtime = tokio::runtime::Handle::current();
    let work = Box::pin(work);
    tokio::task::spawn_blocking(move || {
        let done = runtime.block_on(work);
        drop(places);
        done
    })
    .await
}

/// Stops a simulation when nobody waits for it any more.
struct Stop(Arc<AtomicBool>);

impl Drop for Stop {
    fn drop(&mut self) {
        self.0.store(true, Ordering::Relaxed);
    }
}

/// What publishing a file would say, and its graph as it is shown; nothing where that takes too long.
pub(crate) async fn look(
    app: &App,
    permit: Permit,
    source: &str,
) -> Result<Option<(Looked, Markup)>, PageError> {
    look_with(app, permit, source, ()).await
}

/// As [`look`]; `held` is let go when the work has really ended, whoever waits for it or not.
pub(crate) async fn look_with(
    app: &App,
    permit: Permit,
    source: &str,
    held: impl Send + 'static,
) -> Result<Option<(Looked, Markup)>, PageError> {
    let (journeys, source) = (app.web.journeys.clone(), source.to_owned());
    let work = async move {
        let _held = held;
        let looked = journeys.look_at_file(&permit, &source).await?;
        let drawn = looked.graph.as_ref().map(|graph| drawn(graph, &looked));
        Ok::<_, journey::JourneyError>((looked, drawn.unwrap_or_default()))
    };
    let done = at_work(&app.looks, &LOOKS, LOOK_WITHIN, work).await?;
    Ok(done.transpose()?)
}

/// The graph and the same as a table.
fn drawn(graph: &GraphView, looked: &Looked) -> Markup {
    html! {
        @if graph.edges.len() <= WAYS_MAX { (drawing::draft(graph, &looked.marks)) }
        @else { p class="note" { "It has " (thousands(graph.edges.len() as u64)) " ways: too many for a drawing that could be read. They are in the table." } }
        details id="ways" {
            summary { "The ways as a table" }
            div class="scroll" tabindex="0" role="region" aria-label="Ways" { table {
                thead { tr { th scope="col" { "From" } th scope="col" { "To" } th scope="col" { "When" } } }
                tbody { @for edge in graph.edges.iter().take(WAYS_MAX) { tr { td { (title_of(graph, &edge.from)) } td { (title_of(graph, &edge.to)) } td { (spoken(&edge.label)) } } } }
            } }
            @if graph.edges.len() > WAYS_MAX { p class="quiet" { "The first " (WAYS_MAX) " of them." } }
        }
    }
}

/// A cohort that is asked for.
struct Cohort {
    size: Size,
    behaviour: String,
    against_live: bool,
}

/// What stands in the fields, and what comes of it.
#[derive(Default)]
struct Shown {
    source: String,
    patients: String,
    days: String,
    seed: String,
    behaviour: String,
    against_live: bool,
    /// What keeps from doing what was asked for.
    trouble: Option<String>,
    looked: Option<(Looked, Markup)>,
    simulated: Option<Simulation>,
}

/// What comes of a cohort.
enum Simulation {
    /// It was led; beside the version that is live, if that was asked for.
    Led(Box<Simulated>, Option<(u32, Box<Simulated>)>),
    /// The file has errors.
    Errors,
    /// What is said of how people behave has mistakes.
    Behaviour(Vec<Finding>),
}

impl Shown {
    fn new() -> Self {
        Self {
            patients: PATIENTS.to_string(),
            days: DAYS.to_string(),
            seed: "1".to_owned(),
            ..Self::default()
        }
    }

    fn of(fields: &Fields) -> Self {
        // Browsers send line ends as CR LF; a file has LF.
        let text = |name: &str| fields.raw(name).unwrap_or_default().replace("\r\n", "\n");
        let number = |name: &str, usual: String| fields.get(name).map_or(usual, str::to_owned);
        let usual = Self::new();
        Self {
            source: text("source"),
            patients: number("patients", usual.patients),
            days: number("days", usual.days),
            seed: number("seed", usual.seed),
            behaviour: text("behaviour"),
            against_live: fields.get("against") == Some("live"),
            ..Self::default()
        }
    }

    /// The cohort that is asked for, or what is wrong with it.
    fn cohort(&self) -> Result<Cohort, String> {
        let within = |text: &str, most: u32, what: &str| {
            let number = text
                .parse()
                .ok()
                .filter(|number| (1..=most).contains(number));
            number.ok_or_else(|| format!("{what} are 1 to {}. Larger cohorts are for the command line: cairn journey simulate.", thousands(u64::from(most))))
        };
        let patients = within(&self.patients, PATIENTS_MAX, "Patients")?;
        let days = within(&self.days, DAYS_MAX, "Days")?;
        let seed = self
            .seed
            .parse()
            .map_err(|_| "A seed is a whole number, zero or more.".to_owned())?;
        Ok(Cohort {
            size: Size {
                patients,
                days,
                seed,
                threads: 1,
            },
            behaviour: self.behaviour.clone(),
            against_live: self.against_live,
        })
    }
}

fn too_long(within: Duration, what: &str) -> String {
    format!(
        "This took longer than {} seconds, the wait for others included, so it was broken off. {what}",
        within.as_secs()
    )
}

/// Leads a cohort; nothing where it was stopped.
fn led(
    source: &str,
    live: Option<&AgainstLive>,
    cohort: &Cohort,
    stopped: &AtomicBool,
) -> Option<Simulation> {
    let Ok(definition) = Definition::compile(source, 1) else {
        return Some(Simulation::Errors);
    };
    let behaviour = if cohort.behaviour.trim().is_empty() {
        Behaviour::default()
    } else {
        match Behaviour::parse(&definition, &cohort.behaviour) {
            Ok(behaviour) => behaviour,
            Err(findings) => return Some(Simulation::Behaviour(findings)),
        }
    };
    let this = journey::simulate_unless(stopped, &definition, &behaviour, cohort.size)?;
    // The same people: only the journey is another.
    let live = live.filter(|_| cohort.against_live);
    let live = live.and_then(|live| {
        Some((
            live.version,
            Definition::compile(&live.source, live.version).ok()?,
        ))
    });
    let against = match live {
        Some((version, definition)) => {
            let led = journey::simulate_unless(stopped, &definition, &behaviour, cohort.size)?;
            Some((version, Box::new(led)))
        }
        None => None,
    };
    Some(Simulation::Led(Box::new(this), against))
}

async fn simulated(
    app: &App,
    source: &str,
    live: Option<AgainstLive>,
    cohort: Cohort,
) -> Result<Option<Simulation>, PageError> {
    let stop = Stop(Arc::new(AtomicBool::new(false)));
    let (stopped, source) = (stop.0.clone(), source.to_owned());
    let work = async move {
        if stopped.load(Ordering::Relaxed) {
            return None;
        }
        led(&source, live.as_ref(), &cohort, &stopped)
    };
    let done = at_work(&app.cohorts, &COHORTS, SIMULATE_WITHIN, work).await?;
    drop(stop);
    Ok(done.flatten())
}

fn cut(text: &str) -> String {
    match text.char_indices().nth(VALUE_MAX) {
        Some((end, _)) => format!("{}…", &text[..end]),
        None => text.to_owned(),
    }
}

fn changes(live: &AgainstLive) -> Markup {
    let mut last = None;
    let shown: Vec<(bool, &Change)> = (live.changes.iter().take(CHANGES_MAX))
        .map(|change| (last.replace(change.what) != Some(change.what), change))
        .collect();
    html! {
        section class="stack" aria-labelledby="changes" {
            h2 id="changes" { "Against version " (live.version) ", which is live" }
            @if live.is_same_text { p { (layout::state(State::Done, "It is what is live")) } }
            @else if live.changes.is_empty() { p { "Nothing that patients or staff meet is different; comments or the order of members are." } }
            @else {
                p { (layout::count_of(live.changes.len(), "change")) ": " del { "− as it is live" } ", " ins { "+ as it is here" } "." }
                div class="changes stack" {
                    @for (first, change) in &shown {
                        @if *first { h3 { (change.what.heading()) } }
                        div {
                            div class="mono" { (change.place) }
                            @if let Some(before) = &change.before { div { del { code { "− " (cut(before)) } } } }
                            @if let Some(after) = &change.after { div { ins { code { "+ " (cut(after)) } } } }
                        }
                    }
                }
                @if live.changes.len() > CHANGES_MAX { p class="quiet" { "The first " (CHANGES_MAX) " of them." } }
            }
        }
    }
}

/// Beside the file: how it stands, its graph, what is found.
pub(super) fn beside_it(looked: Option<&(Looked, Markup)>, source: &str) -> Markup {
    html! {
        section id="looked" class="stack" tabindex="-1" aria-label="What the checker finds, and the graph" {
            @match looked {
                None => (layout::empty("Nothing is checked yet", "Paste a file, or open a version, and check it. Its graph is drawn here.")),
                Some((looked, graph)) => {
                    p id="verdict" { (checks::verdict(&looked.findings)) }
                    @if !looked.findings.is_empty() { (checks::list(&looked.findings, source, Some(FIELD))) }
                    @if looked.graph.is_none() { p class="quiet" { "The graph is drawn as soon as the file's form is right." } }
                    (graph)
                }
            }
        }
    }
}

/// Beneath both: what the file changes, if something of its name is live.
pub(super) fn against(looked: Option<&(Looked, Markup)>) -> Markup {
    let live = looked.and_then(|(looked, _)| looked.against_live.as_ref());
    html! { div id="differs" { @if let Some(live) = live { (changes(live)) } } }
}

/// The file, and the line that says how it stands while somebody types.
fn file(shown: &Shown) -> Markup {
    html! {
        div {
            label { "Journey file (YAML)" textarea id=(FIELD) class="source" name="source" spellcheck="false" wrap="off" required data-check=(typing::HERE) { "\n" (shown.source) } }
            p class="small quiet scripted" {
                span id="checking" aria-hidden="true" { "Checked as you type." } " "
                span id="said" role="status" {}
            }
        }
        script src=(assets::STUDIO.url) defer {}
    }
}

fn settings(shown: &Shown) -> Markup {
    let live = shown
        .looked
        .as_ref()
        .and_then(|(looked, _)| looked.against_live.as_ref());
    html! {
        fieldset class="card stack" {
            legend { "Simulate a cohort" }
            div class="grid-fields" {
                label { "Patients" input type="number" name="patients" min="1" max=(PATIENTS_MAX) value=(shown.patients); }
                label { "Days" input type="number" name="days" min="1" max=(DAYS_MAX) value=(shown.days); }
                label { "Seed" input type="text" name="seed" inputmode="numeric" maxlength="20" autocomplete="off" value=(shown.seed); }
            }
            @if live.is_none_or(|live| !live.is_same_text) {
                label class="choice" { input type="checkbox" name="against" value="live" checked[shown.against_live]; span { "Lead the same people along the live version, too, if there is one" } }
            }
            details open[!shown.behaviour.is_empty()] {
                summary { "How patients and staff behave" }
                label { span class="hint" { "As in a file beside a journey (name.behaviour.yaml); what it doesn't say is assumed, and said in the report" }
                    textarea name="behaviour" class="mono" spellcheck="false" { "\n" (shown.behaviour) }
                }
            }
            div { button type="submit" name="do" value="simulate" { "Simulate" } }
        }
    }
}

async fn page(ctx: &Ctx, shown: &Shown) -> Result<Response, PageError> {
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let versions = ctx.app.web.journeys.versions(&permit).await?;
    let sentence = html! { "A journey's file beside its graph. It is checked as publishing checks it, and nothing that is typed here is kept." };
    let body = html! {
        p class="crumbs" { a href="/console/journeys" { "Journeys" } }
        (layout::head(TITLE, &sentence, &html! {}))
        div class="studio stack-wide" {
            @if !versions.is_empty() {
                form class="inline-fields" method="get" action=(HERE) {
                    label { "Open a version" select name="open" { @for version in &versions {
                        option value={ (version.name) "/" (version.version) } { (version.title) ", version " (version.version) " · " (version.stage.name()) }
                    } } }
                    button type="submit" { "Open" }
                }
            }
            @if let Some(trouble) = &shown.trouble { div class="problem" role="alert" { strong { "That was not done. " } (trouble) } }
            div class="columns half" {
                form class="stack" method="post" action=(HERE) {
                    (csrf(ctx))
                    (file(shown))
                    div class="cluster" {
                        button class="primary" type="submit" name="do" value="look" { "Check and draw" }
                        @if ctx.role() == Role::Squad {
                            button type="submit" name="do" value="draft" formaction="/console/journeys/publish" { "Keep as a draft" }
                            button type="submit" name="do" value="check" formaction="/console/journeys/publish" { "Go on to publish it" }
                        }
                    }
                    (settings(shown))
                }
                (beside_it(shown.looked.as_ref(), &shown.source))
            }
            @match &shown.simulated {
                Some(Simulation::Led(report, against)) => (cohort::report(report, against.as_ref())),
                Some(Simulation::Errors) => p class="problem" { "A file with errors can't be simulated." },
                Some(Simulation::Behaviour(findings)) => section class="stack" aria-labelledby="behaviour" {
                    h2 id="behaviour" { "How patients and staff behave can't be read" }
                    (checks::list(findings, &shown.behaviour, None))
                },
                None => {}
            }
            (against(shown.looked.as_ref()))
        }
    };
    Ok(console(ctx, TITLE, Section::Journeys, None, &body))
}

/// `GET /console/studio`: empty, or with a version of a journey.
pub(crate) async fn form(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let mut shown = Shown::new();
    if let Some(open) = fields.get("open") {
        let (name, version) = open.split_once('/').ok_or(PageError::NotFound)?;
        let version = version.parse().map_err(|_| PageError::NotFound)?;
        shown.source = ctx.app.web.journeys.source(&permit, name, version).await?;
        fill(&ctx, permit, &mut shown).await?;
    }
    page(&ctx, &shown).await
}

async fn fill(ctx: &Ctx, permit: Permit, shown: &mut Shown) -> Result<(), PageError> {
    shown.looked = look(&ctx.app, permit, &shown.source).await?;
    if shown.looked.is_none() {
        let what = "Try again in a moment, or check the file with cairn journey check.";
        shown.trouble = Some(too_long(LOOK_WITHIN, what));
    }
    Ok(())
}

/// `POST /console/studio`: looks at what was typed, and leads a cohort if that is asked for.
pub(crate) async fn show(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Observe, None, None).await?;
    let mut shown = Shown::of(&fields);
    fill(&ctx, permit, &mut shown).await?;
    if let (Some("simulate"), Some((looked, _))) = (fields.get("do"), &shown.looked) {
        let live = looked.against_live.clone();
        match shown.cohort() {
            Err(trouble) => shown.trouble = Some(trouble),
            Ok(cohort) => {
                shown.simulated = simulated(&ctx.app, &shown.source, live, cohort).await?;
                if shown.simulated.is_none() {
                    let what =
                        "Ask for fewer patients or days, or try again when fewer people simulate.";
                    shown.trouble = Some(too_long(SIMULATE_WITHIN, what));
                }
            }
        }
    }
    page(&ctx, &shown).await
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What takes too long is told so, and keeps its place until it has really ended.
    #[tokio::test(flavor = "multi_thread")]
    async fn work_that_takes_too_long_keeps_its_place_until_it_has_ended() {
        static ALL: Semaphore = Semaphore::const_new(1);
        let places = Arc::new(Semaphore::new(1));
        let soon = Duration::from_millis(50);
        let (end, ended) = tokio::sync::oneshot::channel::<()>();
        let long = async move {
            let _ = ended.await;
        };
        assert!(at_work(&places, &ALL, soon, long).await.unwrap().is_none());
        let never = Arc::new(AtomicBool::new(false));
        let seen = never.clone();
        let waits = async move { seen.store(true, Ordering::Relaxed) };
        assert!(at_work(&places, &ALL, soon, waits).await.unwrap().is_none());
        // Another organisation has a place of its own, and waits for one of all.
        let (others, seen) = (Arc::new(Semaphore::new(1)), never.clone());
        let waits = async move { seen.store(true, Ordering::Relaxed) };
        assert!(at_work(&others, &ALL, soon, waits).await.unwrap().is_none());
        assert!(!never.load(Ordering::Relaxed), "there was no place for it");
        end.send(()).unwrap();
        let place = places.acquire().await.unwrap();
        drop(place);
        let later = Duration::from_secs(30);
        let done = at_work(&others, &ALL, later, async { 7 }).await;
        assert_eq!(done.unwrap(), Some(7));
        // A fault in it is no answer, and takes no place for good.
        let fault = async { panic!("a fault") };
        assert!(at_work::<()>(&places, &ALL, later, fault).await.is_err());
        let done = at_work(&places, &ALL, later, async { 8 }).await;
        assert_eq!(done.unwrap(), Some(8));
    }

    #[test]
    fn a_cohort_whose_reader_has_gone_is_led_no_further() {
        let source = include_str!("../../../../journeys/heart-failure-discharge.yaml");
        let shown = Shown::new();
        let cohort = shown.cohort().unwrap();
        assert_eq!((cohort.size.patients, cohort.size.days), (PATIENTS, DAYS));
        let stop = Stop(Arc::new(AtomicBool::new(false)));
        let stopped = stop.0.clone();
        drop(stop);
        assert!(led(source, None, &cohort, &stopped).is_none());
    }
}
