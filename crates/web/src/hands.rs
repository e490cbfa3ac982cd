//! One patient's journey, led by hand: held, let go on, and put right, with what would come of it said before.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use journey::{Act, Foreseen, GoesView, InstanceView, PlaceView, PlannedView};
use maud::{Markup, html};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::stopping::{REASON_MAX, here, permit};
use crate::time::signed;
use crate::worklist::patient_name;

/// What is planned that is shown at most.
const PLANNED_SHOWN: usize = 12;

/// A deed, by its name in addresses: heading, what it does, what is said when it is done.
struct Deed {
    name: &'static str,
    title: &'static str,
    does: &'static str,
    done: &'static str,
}

const DEEDS: [Deed; 6] = [
    Deed {
        name: "hold",
        title: "Hold this journey",
        does: "Nothing is begun and nothing is sent until somebody lets it go on. What the patient or staff have already (forms, tasks, visits) stays open, and what they do with it is taken in at once. Messages that have not left are held back. No time is up while it is held.",
        done: "The journey is held.",
    },
    Deed {
        name: "go-on",
        title: "Let this journey go on",
        does: "What was put off is done, in order: messages that were held, steps that would have been begun, then what has become due, once and late. Waits and deadlines count from when they began, so those that have passed are over at once.",
        done: "The journey goes on.",
    },
    Deed {
        name: "skip",
        title: "Skip a step",
        does: "The step is left as if what it waits for were done. What is open there is called off.",
        done: "The step was skipped.",
    },
    Deed {
        name: "again",
        title: "Begin a step anew",
        does: "What is open there is called off, and the step begins again with all its time.",
        done: "The step was begun anew.",
    },
    Deed {
        name: "send",
        title: "Send the patient to a step",
        does: "What is open where the patient is left is called off, and they go on there. Forms that were given up on and may still be answered stay.",
        done: "The patient was sent there.",
    },
    Deed {
        name: "take-back",
        title: "Take the last act back",
        does: "What it began is called off, and the patient is where they were. A wait goes on as it was; a form, a task, a visit or a message is begun anew.",
        done: "It was taken back.",
    },
];

fn deed(fields: &Fields) -> Result<&'static Deed, PageError> {
    let name = fields.get("do").unwrap_or_default();
    let found = DEEDS.iter().find(|deed| deed.name == name);
    found.ok_or(PageError::NotFound)
}

fn act(deed: &Deed, fields: &Fields) -> Result<Act, PageError> {
    let number = |name: &str| fields.get(name).and_then(|text| text.parse::<u32>().ok());
    let missing = || PageError::Invalid("Say which place, and where to.".to_owned());
    let place = || number("place").ok_or_else(missing);
    Ok(match deed.name {
        "hold" => Act::Pause,
        "go-on" => Act::Resume,
        "skip" => Act::Skip {
            n: place()?,
            way: number("way").ok_or_else(missing)? as usize,
        },
        "again" => Act::Retry { n: place()? },
        "send" => Act::Jump {
            from: number("place"),
            to: fields.get("to").ok_or_else(missing)?.to_owned(),
        },
        _ => Act::Undo,
    })
}

/// What was done, for the page that it leads to.
pub(crate) fn done(fields: &Fields) -> Option<Markup> {
    let name = fields.get("done")?;
    let deed = DEEDS.iter().find(|deed| deed.name == name)?;
    Some(html! {
        div class="flash" role="status" { (layout::state(State::Done, "Done")) " " (deed.done) }
    })
}

fn ask(id: &str, one: &InstanceView, deed: &str, inner: &Markup, words: &str) -> Markup {
    html! {
        form class="inline-fields" method="get" action={ (here(id)) "/" (one.id) } {
            input type="hidden" name="do" value=(deed);
            (inner)
            button type="submit" { (words) }
        }
    }
}

fn steps(label: &str, goes: &[GoesView]) -> Markup {
    html! {
        label { (label) select name="to" { @for step in goes { option value=(step.step) { (step.title) } } } }
    }
}

fn place(ctx: &Ctx, id: &str, one: &InstanceView, place: &PlaceView) -> Markup {
    let at = html! { input type="hidden" name="place" value=(place.n); };
    let ways = html! {
        (at)
        label { "Skip" select name="way" {
            @for (number, (label, to)) in place.ways.iter().enumerate() {
                option value=(number) { (label.replace('_', " ")) @if to.is_empty() { ": ends there" } @else { ": " (to.join(", ")) } }
            }
        } }
    };
    let goes = html! { (at) (steps("Send to", &place.goes)) };
    html! {
        li class="stack" {
            p { span class="strong" { (place.title) } span class="quiet" { " · began " (ctx.times.ago(signed(place.since_ms))) } }
            @if !place.ways.is_empty() { (ask(id, one, "skip", &ways, "Look at skipping it")) }
            (ask(id, one, "again", &at, "Look at beginning it anew"))
            @if !place.goes.is_empty() { (ask(id, one, "send", &goes, "Look at sending them")) }
        }
    }
}

/// What can be done to a journey, as forms that lead to what would come of it.
pub(crate) fn choices(ctx: &Ctx, id: &str, one: &InstanceView) -> Markup {
    let nothing = html! {};
    let hand = &one.hand;
    html! {
        @match &hand.paused {
            Some(paused) => {
                p class="note" {
                    (layout::state(State::Waiting, "Held")) " " (ctx.times.ago(signed(paused.since_ms)))
                    @if !paused.ahead.is_empty() { ". Waits to be begun: " (paused.ahead.join(", ")) }
                    @if paused.unsent > 0 { ". Messages that try another channel: " (paused.unsent) }
                    "."
                }
                (ask(id, one, "go-on", &nothing, "Look at letting it go on"))
            }
            None => { (ask(id, one, "hold", &nothing, "Look at holding it")) }
        }
        @if hand.not_undone.is_none() { (ask(id, one, "take-back", &nothing, "Look at taking the last act back")) }
        details {
            summary { "Lead the patient by hand" }
            ul class="stack" { @for at in &hand.places { (place(ctx, id, one, at)) } }
            @if hand.places.len() != 1 && !hand.goes.is_empty() {
                p { "From everywhere at once:" }
                (ask(id, one, "send", &steps("Send to", &hand.goes), "Look at sending them"))
            }
        }
    }
}

fn list(ctx: &Ctx, planned: &[PlannedView]) -> Markup {
    html! {
        ul { @for item in planned.iter().take(PLANNED_SHOWN) { li { (item.what) span class="quiet" { " · " (ctx.times.ago(signed(item.at_ms))) } } } }
        @if planned.len() > PLANNED_SHOWN { p class="quiet small" { "And " (planned.len() - PLANNED_SHOWN) " more." } }
    }
}

fn effect(ctx: &Ctx, foreseen: &Foreseen) -> Markup {
    html! {
        section class="card stack" aria-labelledby="effect" {
            h2 id="effect" { "What would come of it" }
            @if !foreseen.called_off.is_empty() {
                p { "Left, and what is open there called off:" }
                ul { @for title in &foreseen.called_off { li { (title) } } }
            }
            @if foreseen.at_once.is_empty() { p { "Nothing happens at once." } }
            @else { p { "At once:" } (list(ctx, &foreseen.at_once)) }
            @if foreseen.planned.is_empty() { p { "Nothing is planned then." } }
            @else { p { "Planned then, if nothing else happens:" } (list(ctx, &foreseen.planned)) }
        }
    }
}

/// `GET /console/patients/{id}/journeys/{journey}`: what would come of a deed.
pub(crate) async fn page(
    ctx: Ctx,
    Path((id, journey)): Path<(String, String)>,
    fields: Fields,
) -> Result<Response, PageError> {
    let (permit, patient) = permit(&ctx, &id).await?;
    let deed = deed(&fields)?;
    let act = act(deed, &fields)?;
    let journeys = &ctx.app.web.journeys;
    let foreseen = journeys.foresee(&permit, &id, &journey, &act).await?;
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { (patient_name(&patient)) } " / " a href=(here(&id)) { "Journeys by hand" } }
        div class="stack-wide" {
            h1 { (deed.title) }
            p class="facts-line" { span class="strong" { (patient_name(&patient)) } }
            p { (deed.does) }
            (effect(&ctx, &foreseen))
            form class="ask stack" method="post" action={ (here(&id)) "/" (journey) } {
                (csrf(&ctx))
                @for name in ["do", "place", "way", "to"] { @if let Some(value) = fields.get(name) { input type="hidden" name=(name) value=(value); } }
                input type="hidden" name="seen" value=(foreseen.version);
                label { "Why" span class="hint" { "It stands in the patient's history with your name, and the patient may see it" }
                    input type="text" name="reason" required maxlength=(REASON_MAX) autocomplete="off";
                }
                div class="inline-fields" { button type="submit" { (deed.title) } a class="button" href=(here(&id)) { "Don't" } }
            }
        }
    };
    Ok(console(&ctx, deed.title, Section::Patients, None, &body))
}

/// `POST /console/patients/{id}/journeys/{journey}`.
pub(crate) async fn act_on(
    Path((id, journey)): Path<(String, String)>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let (permit, _) = permit(&ctx, &id).await?;
    let deed = deed(&fields)?;
    let act = act(deed, &fields)?;
    let reason = crate::stopping::reason(&fields)?;
    let seen = fields.get("seen").and_then(|seen| seen.parse().ok());
    let journeys = &ctx.app.web.journeys;
    journeys
        .act(&permit, &id, &journey, act, reason, seen)
        .await?;
    let to = format!("{}?done={}", here(&id), deed.name);
    Ok(Redirect::to(&to).into_response())
}
