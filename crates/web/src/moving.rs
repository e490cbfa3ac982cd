//! Patients moved to another version of their journey: what would come of it shown before, asked for, and taken
//! back. How far it has come is on the page of its batch.

use std::collections::{BTreeSet, HashMap};

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{
    Finding, Goes, JourneyError, Map, MoveOutcome, Moving, NamedPage, OneMoved, PlanChange,
    Portion, Preview, RATE_MAX, StepView, VersionStage, VersionView, WhichMoved, Who,
};
use maud::{Markup, html};
use trust::{Action, Permit};

use crate::context::{Ctx, Fields, Posted, escape};
use crate::error::PageError;
use crate::journeys::checks;
use crate::journeys::people::patient;
use crate::layout::{self, Section, State, console, csrf, thousands};
use crate::stopping::{REASON_MAX, reason};
use crate::time::signed;
use crate::worklist::{PatientLine, patient_lines};

const TITLE: &str = "Move to another version";
/// Patients a second where nothing else is said.
const RATE: u32 = 10;
/// Patients that are shown by name at once.
const NAMED: usize = 10;
/// Differences that are shown of one patient.
const DIFFERS_SHOWN: usize = 12;
/// The name of a step's field, before the step's id.
const MAP: &str = "map-";
/// The field with a file of such lines.
const LINES: &str = "lines";

async fn permit(ctx: &Ctx) -> Result<Permit, PageError> {
    ctx.staff()?;
    ctx.permit(Action::Steer, None, None).await
}

fn invalid(words: &str) -> PageError {
    PageError::Invalid(words.to_owned())
}

fn number<T: std::str::FromStr>(fields: &Fields, name: &str) -> Option<T> {
    fields.get(name).and_then(|text| text.parse().ok())
}

fn here(name: &str) -> String {
    format!("/console/journeys/{}/move", escape(name))
}

fn versions_of(all: Vec<VersionView>, name: &str) -> Vec<VersionView> {
    // Whoever is on a version that was taken back is to be moved away from it.
    let known = |version: &VersionView| match version.stage {
        VersionStage::Draft => false,
        VersionStage::Checked => version.running > 0,
        _ => true,
    };
    let of_name = all.into_iter().filter(|version| version.name == name);
    of_name.filter(known).collect()
}

fn goes(value: &str) -> Result<Goes, PageError> {
    Ok(match value.split_once(':') {
        Some(("step", step)) => Goes::Step(step.to_owned()),
        _ => match value {
            "hold" => Goes::Hold,
            "stay" => Goes::Stay,
            _ => return Err(invalid("Say where they go on.")),
        },
    })
}

/// Why a move that is asked about can't be looked at.
enum Trouble {
    /// What is wrong with the lines of where they go on.
    Lines(Vec<Finding>),
    Page(PageError),
}

impl From<PageError> for Trouble {
    fn from(error: PageError) -> Self {
        Self::Page(error)
    }
}

impl From<Trouble> for PageError {
    fn from(trouble: Trouble) -> Self {
        match trouble {
            Trouble::Page(error) => error,
            Trouble::Lines(findings) => JourneyError::Findings(findings).into(),
        }
    }
}

/// The lines of where they go on, as they were typed.
fn lines(fields: &Fields) -> String {
    // Browsers send line ends as CR LF.
    let lines = fields.raw(LINES).unwrap_or_default();
    lines.replace("\r\n", "\n")
}

async fn moving(
    ctx: &Ctx,
    permit: &Permit,
    name: &str,
    fields: &Fields,
) -> Result<Moving, Trouble> {
    let from = number(fields, "from").ok_or(PageError::NotFound)?;
    let to = number(fields, "to").ok_or(PageError::NotFound)?;
    let mut map = Map::new();
    for (field, value) in &fields.0 {
        if let (Some(step), false) = (field.strip_prefix(MAP), value.is_empty()) {
            map.insert(step.to_owned(), goes(value)?);
        }
    }
    let lines = lines(fields);
    if !lines.trim().is_empty() {
        let journeys = &ctx.app.web.journeys;
        let said = match journeys.map_in(permit, (name, from, to), &lines).await {
            Err(JourneyError::Findings(findings)) => return Err(Trouble::Lines(findings)),
            said => said.map_err(PageError::from)?,
        };
        for (step, goes) in said {
            if map.get(&step).is_some_and(|chosen| *chosen != goes) {
                let words = format!(
                    "Where those go on who are at {step} is said twice: in the lines and in the list."
                );
                return Err(PageError::Invalid(words).into());
            }
            map.insert(step, goes);
        }
    }
    let portion = match (fields.get("first"), fields.get("share")) {
        (None, None) => Portion::All,
        (Some(_), None) => Portion::First(
            number(fields, "first").ok_or_else(|| invalid("How many is a whole number."))?,
        ),
        (None, Some(_)) => {
            let share = number(fields, "share").filter(|share| (1..=100).contains(share));
            Portion::Share(share.ok_or_else(|| invalid("A share is 1 to 100."))?)
        }
        (Some(_), Some(_)) => {
            return Err(invalid("Say how many, or which share: not both.").into());
        }
    };
    Ok(Moving {
        who: Who {
            journey: name.to_owned(),
            version: from,
            step: None,
            for_ms: 0,
            held: None,
            patients: BTreeSet::new(),
            among: 0,
        },
        portion,
        to,
        map,
    })
}

fn row(step: &StepView, to: &[StepView], fields: &Fields) -> Markup {
    let known = to.iter().any(|after| after.step == step.step);
    let chosen = fields
        .get(&format!("{MAP}{}", step.step))
        .unwrap_or_default();
    html! {
        label { (step.title) @if !known { span class="hint" { "The other version has no step " span class="mono" { (step.step) } } }
            select name={ (MAP) (step.step) } {
                @if known { option value="" { "at the same step" } } @else { option value="" { "not moved: nobody has said where" } }
                @for after in to { @if after.step != step.step {
                    @let value = format!("step:{}", after.step);
                    option value=(value) selected[value == chosen] { "at: " (after.title) }
                } }
                option value="stay" selected[chosen == "stay"] { "stay on their version" }
                option value="hold" selected[chosen == "hold"] { "are held, until somebody decides" }
            }
        }
    }
}

/// Where patients go on who are moved: for each step, or as lines; and how many of them.
fn settings(
    ctx: &Ctx,
    name: &str,
    (from, to): (u32, u32),
    (old, new): (&[StepView], &[StepView]),
    fields: &Fields,
    wrong: Option<&[Finding]>,
) -> Markup {
    let gone = |step: &&StepView| !new.iter().any(|after| after.step == step.step);
    let typed = lines(fields);
    html! {
        form class="ask stack" method="post" action=(here(name)) {
            (csrf(ctx))
            input type="hidden" name="from" value=(from);
            input type="hidden" name="to" value=(to);
            @if old.iter().any(|step| gone(&step)) { fieldset class="stack" { legend { "Where those go on who are at a step that is gone" } @for step in old.iter().filter(gone) { (row(step, new, fields)) } } }
            details { summary { "Where the others go on" } div class="stack" {
                @for step in old.iter().filter(|step| !gone(step)) { (row(step, new, fields)) }
            } }
            details open[!typed.is_empty()] { summary { "The same as lines" } div class="stack" {
                label { "Where they go on" span class="hint" { "One line for each step: its name, a colon, and a step of the other version, stay or hold. Where a step is called stay or hold, choose it from the list." }
                    textarea class="mono" name=(LINES) spellcheck="false" rows="6" { "\n" (typed) }
                }
            } }
            @if let Some(findings) = wrong { div role="alert" { (checks::list(findings, &typed, None)) } }
            label { "Only the first so many" span class="hint" { "To begin with; all where nothing is said" } input type="number" name="first" min="1" max="10000" value=[fields.get("first")]; }
            label { "Or so many in a hundred" input type="number" name="share" min="1" max="100" value=[fields.get("share")]; }
            div { button type="submit" { "Show what would come of it" } }
        }
    }
}

/// `GET /console/journeys/{name}/move`: from which version to which, and where those go on whose step is gone.
pub(crate) async fn form(
    ctx: Ctx,
    Path(name): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    form_page(&ctx, &permit, &name, &fields, None).await
}

async fn form_page(
    ctx: &Ctx,
    permit: &Permit,
    name: &str,
    fields: &Fields,
    wrong: Option<&[Finding]>,
) -> Result<Response, PageError> {
    let journeys = &ctx.app.web.journeys;
    let versions = versions_of(journeys.versions(permit).await?, name);
    let from: u32 = number(fields, "from").ok_or(PageError::NotFound)?;
    let of = |wanted: u32| versions.iter().find(|version| version.version == wanted);
    let before = of(from).ok_or(PageError::NotFound)?;
    let others: Vec<&VersionView> = versions
        .iter()
        .filter(|version| version.version != from && version.stage != VersionStage::Checked)
        .collect();
    let chosen = number(fields, "to").filter(|to| *to != from).and_then(of);
    let steps = match chosen {
        Some(after) => {
            let old = journeys.steps(permit, name, from).await?;
            let new = journeys.steps(permit, name, after.version).await?;
            Some((after.version, old, new))
        }
        None => None,
    };
    let peopled = |version: &&VersionView| version.version == from || version.running > 0;
    let body = html! {
        p class="crumbs" { a href={ "/console/journeys/" (escape(name)) "?version=" (from) } { (before.title) } }
        (layout::head(TITLE, &html! { "Patients stay on the version that they started on, unless they are moved. What would come of it is shown first." }, &html! {}))
        @if others.is_empty() { (layout::empty("There is no other version", "A squad publishes or stages one.")) }
        @else {
            form class="inline-fields" method="get" action=(here(name)) {
                label { "From" select name="from" {
                    @for version in versions.iter().filter(peopled) { option value=(version.version) selected[version.version == from] { "Version " (version.version) ", " (thousands(version.running)) " in it now" } }
                } }
                label { "To" select name="to" {
                    @for other in versions.iter().filter(|version| version.stage != VersionStage::Checked) { option value=(other.version) selected[chosen.map_or(other.version == others[0].version, |chosen| chosen.version == other.version)] { "Version " (other.version) ", " (other.stage.name()) } }
                } }
                button type="submit" { "Choose" }
            }
        }
        @if let Some((to, old, new)) = &steps { (settings(ctx, name, (from, *to), (&old[..], &new[..]), fields, wrong)) }
    };
    Ok(console(ctx, TITLE, Section::Journeys, None, &body))
}

fn how(change: PlanChange) -> &'static str {
    match change {
        PlanChange::Gone => "No more",
        PlanChange::New => "New",
        PlanChange::OtherTime => "At another time",
        PlanChange::OtherWords => "In other words",
    }
}

fn many(count: usize) -> String {
    thousands(count as u64)
}

/// A number of a preview that leads to those whom it counts.
fn leads(count: usize, which: WhichMoved, words: &Markup) -> Markup {
    html! { @if count > 0 { li { (words) " " button class="plain" type="submit" name="only" value=(which.name()) { "Who" span class="visually-hidden" { ": " (words_of(which)) } } } } }
}

/// Those of whom something becomes, in words.
fn words_of(which: WhichMoved) -> &'static str {
    match which {
        WhichMoved::Moves => "those who are moved",
        WhichMoved::Changed => "those for whom something else is planned than now",
        WhichMoved::Stays => "those who stay on their version",
        WhichMoved::Held => "those who are held on their version",
        WhichMoved::Waits => "those who are moved when something is over",
        WhichMoved::Cannot => "those who can't be moved",
    }
}

fn sums(ctx: &Ctx, name: &str, fields: &Fields, preview: &Preview) -> Markup {
    html! {
        section class="card stack" aria-labelledby="effect" {
            h2 id="effect" { "What would come of it" }
            p {
                span class="strong" { (many(preview.moves)) } " of " (many(preview.total)) @if preview.total == 1 { " journey" } @else { " journeys" } " would be moved"
                @if preview.found > preview.total { " (" (many(preview.found)) " are found)" }
                ", " span class="strong" { (many(preview.changed)) } " of them with something else planned than now."
            }
            form method="post" action=(here(name)) {
                (csrf(ctx))
                (carried(fields))
                ul {
                    (leads(preview.moves, WhichMoved::Moves, &html! { (many(preview.moves)) " are moved" }))
                    (leads(preview.changed, WhichMoved::Changed, &html! { (many(preview.changed)) " of them have something else planned than now" }))
                    (leads(preview.stays, WhichMoved::Stays, &html! { (many(preview.stays)) " stay on their version" }))
                    (leads(preview.held, WhichMoved::Held, &html! { (many(preview.held)) " are held on their version" }))
                    (leads(preview.waits, WhichMoved::Waits, &html! { (many(preview.waits)) " are moved when something is over" }))
                    (leads(preview.cannot, WhichMoved::Cannot, &html! { (layout::state(State::NeedsYou, &format!("{} can't be moved", many(preview.cannot)))) }))
                }
            }
            @if !preview.why.is_empty() { ul { @for (why, count) in &preview.why { li { (many(*count)) ": " (why) } } } }
            @if !preview.differs.is_empty() {
                div class="scroll" { table {
                    caption { "What differs of what is planned" }
                    thead { tr { th scope="col" { "What" } th scope="col" { "How" } th scope="col" class="number" { "Patients" } th scope="col" class="number" { "Times" } } }
                    tbody { @for sum in &preview.differs { tr {
                        th scope="row" { (sum.what) }
                        td { (how(sum.change)) }
                        td class="number" { (many(sum.patients)) }
                        td class="number" { (many(sum.times)) }
                    } } }
                } }
            }
        }
    }
}

fn outcome(ctx: &Ctx, one: &OneMoved) -> Markup {
    html! {
        @match &one.outcome {
            MoveOutcome::Moves if one.differs.is_empty() => p class="quiet" { "Moved; nothing that is planned differs." },
            MoveOutcome::Moves => ul { @for differs in one.differs.iter().take(DIFFERS_SHOWN) { li {
                (how(differs.change)) ": " (differs.what)
                @match (differs.before_ms, differs.after_ms) {
                    (Some(before), Some(after)) if before != after => { ", " (ctx.times.ago(signed(after))) " instead of " (ctx.times.ago(signed(before))) },
                    (Some(at), _) | (None, Some(at)) => { ", " (ctx.times.ago(signed(at))) },
                    (None, None) => {},
                }
            } } },
            MoveOutcome::Stays => p { "Stays on their version." },
            MoveOutcome::Held => p { "Is held on their version." },
            MoveOutcome::Waits(what) => p { (layout::state(State::Waiting, "Moved later")) ": " (what) },
            MoveOutcome::Cannot(why) => p { (layout::state(State::Failed, "Can't be moved")) ": " (why) },
        }
    }
}

/// The fields of a question, carried along.
fn carried(fields: &Fields) -> Markup {
    html! {
        @for (name, value) in &fields.0 {
            @if (name.starts_with(MAP) || ["from", "to", "first", "share", LINES].contains(&name.as_str())) && !value.is_empty() { input type="hidden" name=(name) value=(value); }
        }
    }
}

fn named(
    ctx: &Ctx,
    name: &str,
    fields: &Fields,
    (page, only): (&NamedPage, Option<WhichMoved>),
    lines: &HashMap<String, PatientLine>,
) -> Markup {
    html! {
        section class="stack" aria-labelledby="named" {
            h2 id="named" { @match only { None => "For each of them", Some(which) => { "For each of " (words_of(which)) } } }
            @if page.each.is_empty() && page.hidden == 0 { p class="quiet" { @if page.next.is_some() { "Something has just happened to those who were here; there are others." } @else { "Nobody else." } } }
            @if page.hidden > 0 { p class="note" { (layout::count_of(page.hidden, "patient")) " here whom you are not shown, as in other lists: relationships, consents and labels decide. The numbers count them." } }
            ul class="stack" { @for one in &page.each { li { p { (patient(lines, &one.patient)) } (outcome(ctx, one)) } } }
            form class="inline-fields" method="post" action=(here(name)) {
                (csrf(ctx))
                (carried(fields))
                @if let Some(next) = &page.next {
                    @if let Some(which) = only { input type="hidden" name="only" value=(which.name()); }
                    button type="submit" name="after" value=(next) { "The next of them" }
                }
                @if only.is_some() || fields.get("after").is_some() { button type="submit" name="again" value="all" { "Back to what would come of it" } }
            }
        }
    }
}

/// Of whom a page is asked for by name.
fn only(fields: &Fields) -> Result<Option<WhichMoved>, PageError> {
    match fields.get("only") {
        _ if fields.get("again").is_some() => Ok(None),
        None => Ok(None),
        Some(name) => {
            let which = WhichMoved::parse(name);
            which.map(Some).ok_or_else(|| invalid("Say of whom."))
        }
    }
}

/// `POST /console/journeys/{name}/move`: what would come of it. Nothing is done.
pub(crate) async fn foresee(
    Path(name): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let asked = match moving(&ctx, &permit, &name, &fields).await {
        Err(Trouble::Lines(findings)) => {
            return form_page(&ctx, &permit, &name, &fields, Some(&findings)).await;
        }
        asked => asked?,
    };
    let journeys = &ctx.app.web.journeys;
    let only = only(&fields)?;
    let after = fields
        .get("after")
        .filter(|_| fields.get("again").is_none());
    // Further pages show further patients; the sums are those of all, and were shown.
    let preview = match (after, only) {
        (None, None) => Some(journeys.preview_migration(&permit, &asked).await?),
        _ => None,
    };
    let page = journeys
        .preview_named_of(&permit, &asked, only, after, NAMED)
        .await?;
    let lines = patient_lines(&ctx, page.each.iter().map(|one| one.patient.clone())).await?;
    let lists = !page.each.is_empty() || page.hidden > 0 || page.next.is_some();
    let back = format!("{}?from={}&to={}", here(&name), asked.who.version, asked.to);
    let reaches = preview
        .as_ref()
        .is_some_and(|preview| preview.moves + preview.waits + preview.held > 0);
    let body = html! {
        p class="crumbs" { a href=(back) { (TITLE) } }
        h1 { (name) ", from version " (asked.who.version) " to version " (asked.to) }
        div class="stack-wide" {
            @if let Some(preview) = &preview { (sums(&ctx, &name, &fields, preview)) }
            @if lists || preview.is_none() { (named(&ctx, &name, &fields, (&page, only), &lines)) }
            @if let Some(preview) = preview.as_ref().filter(|_| reaches) {
                form class="ask stack" method="post" action={ (here(&name)) "/begin" } {
                    (csrf(&ctx))
                    (carried(&fields))
                    input type="hidden" name="seen" value=(preview.seen);
                    label { "Why" span class="hint" { "It stands in each patient's history with your name, and the patient may see it" }
                        input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off";
                    }
                    label { "Patients a second, at most" input type="number" name="rate" min="1" max=(RATE_MAX) value=(RATE); }
                    div class="inline-fields" { button type="submit" { "Move them" } a class="button" href=(back) { "Don't" } }
                }
            }
        }
    };
    Ok(console(&ctx, TITLE, Section::Journeys, None, &body))
}

fn rate(fields: &Fields) -> Result<u32, PageError> {
    let rate = fields.get("rate").map_or(Ok(RATE), str::parse);
    let rate = rate.ok().filter(|rate| (1..=RATE_MAX).contains(rate));
    rate.ok_or_else(|| PageError::Invalid(format!("Patients a second are 1 to {RATE_MAX}.")))
}

/// `POST /console/journeys/{name}/move/begin`: asks for it.
pub(crate) async fn begin(
    Path(name): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let (why, rate) = (reason(&fields)?, rate(&fields)?);
    let asked = moving(&ctx, &permit, &name, &fields).await?;
    let journeys = &ctx.app.web.journeys;
    // What was shown is what is asked for, and nobody is moved whose move nobody has looked at.
    let seen = fields.get("seen");
    let seen = seen.ok_or_else(|| invalid("Look first at what would come of it."))?;
    let id = journeys
        .begin_migration(&permit, asked, why, rate, Some(seen))
        .await?;
    Ok(Redirect::to(&format!("/console/batches/{id}")).into_response())
}

/// The form that takes a move back, on its batch's page.
pub(crate) fn take_back(ctx: &Ctx, batch: &str) -> Markup {
    html! {
        form class="ask stack" method="post" action={ "/console/batches/" (batch) "/back" } {
            (csrf(ctx))
            p { "It can be taken back for those to whom nothing has happened since: they go on where they were, as they were." }
            label { "Why" span class="hint" { "It stands in each patient's history with your name" }
                input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off";
            }
            div { button type="submit" { "Take it back" } }
        }
    }
}

/// `POST /console/batches/{batch}/back`: asks for what a batch did to be taken back.
pub(crate) async fn back(
    Path(batch): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let permit = permit(&ctx).await?;
    let (why, rate) = (reason(&fields)?, rate(&fields)?);
    let journeys = &ctx.app.web.journeys;
    let id = journeys.begin_take_back(&permit, &batch, why, rate).await?;
    Ok(Redirect::to(&format!("/console/batches/{id}")).into_response())
}
