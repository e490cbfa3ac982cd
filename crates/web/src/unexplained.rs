//! Accesses of staff that no relationship on record explains: found by privacy officers, looked into, closed.

use std::collections::HashMap;

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use ledger::Number;
use maud::{Markup, html};
use trust::Action;
use trust::identity::{
    AccessReview, AskedUnexplained, LOOKED_AT_MAX, UnexplainedAccess, UnexplainedPage,
};

use crate::context::{Ctx, Fields, Posted, escape};
use crate::error::PageError;
use crate::layout::{self, Section, State, console, csrf};
use crate::sentence::Sentence;
use crate::time::{iso, signed};
use crate::worklist::{PatientLine, patient_lines};

/// The list.
const HERE: &str = "/console/unexplained";
/// With so many accesses a page is full.
const PAGE: usize = 50;
const DAY_MS: u64 = 86_400_000;

const STATES: [(&str, &str); 3] = [
    ("open", "to look into"),
    ("closed", "closed"),
    ("all", "all"),
];
const TOLD: [(&str, &str); 2] = [
    ("none", "nothing explains it"),
    ("unknown", "it is not known"),
];
const DAYS: [(&str, &str); 5] = [
    ("", "any time"),
    ("1", "last day"),
    ("7", "last 7 days"),
    ("30", "last 30 days"),
    ("90", "last 90 days"),
];

/// One of the values that a field may have; the first where it has another.
fn chosen<'a>(fields: &Fields, name: &str, known: &[(&'a str, &'a str)]) -> &'a str {
    let value = fields.get(name).unwrap_or_default();
    let found = known.iter().find(|(one, _)| *one == value);
    found.or(known.first()).map_or("", |(one, _)| one)
}

fn asked(ctx: &Ctx, fields: &Fields) -> AskedUnexplained {
    let id = |name: &str| fields.get(name).filter(|id| fhir::is_id(id));
    let days: Option<u64> = chosen(fields, "days", &DAYS).parse().ok();
    // The audit's clock is the one of care.
    let now_ms = u64::try_from(ctx.times.care_ms).unwrap_or(0);
    AskedUnexplained {
        unknown: chosen(fields, "told", &TOLD) == "unknown",
        who: id("who").map(str::to_owned),
        patient: id("patient").map(str::to_owned),
        since_ms: days.map(|days| now_ms.saturating_sub(days * DAY_MS)),
        closed: match chosen(fields, "state", &STATES) {
            "open" => Some(false),
            "closed" => Some(true),
            _ => None,
        },
        before: fields
            .get("before")
            .and_then(|number| number.parse().ok())
            .map(Number),
        rows: PAGE,
    }
}

/// How many there are, or that it isn't known.
fn count(found: &UnexplainedPage, asked: &AskedUnexplained) -> Markup {
    let few = found.found < 2;
    let what = match (asked.closed, few) {
        (Some(false), true) => "waits for somebody to look into it",
        (Some(false), false) => "wait for somebody to look into them",
        (Some(true), true) => "was looked into",
        (Some(true), false) => "were looked into",
        (None, true) => "is here",
        (None, false) => "are here",
    };
    html! {
        @match (found.found, found.complete) {
            (0, true) => { "No access" },
            (0, false) => { "No access so far" },
            (number, complete) => {
                @if !complete { "At least " }
                (layout::thousands(number as u64)) @if few { " access" } @else { " accesses" }
            },
        }
        " " (what)
        @if asked.before.is_some() { ", from this page back" }
        "."
    }
}

fn select(name: &str, words: &str, options: &[(&str, &str)], value: &str) -> Markup {
    html! {
        label { (words) select name=(name) {
            @for (one, word) in options { option value=(one) selected[*one == value] { (word) } }
        } }
    }
}

fn name(names: &HashMap<String, PatientLine>, id: &str) -> String {
    names.get(id).map_or_else(
        || format!("patient {}", layout::short_id(id)),
        |line| line.name.clone(),
    )
}

fn state(review: Option<&AccessReview>) -> Markup {
    match review {
        None => layout::state(State::NeedsYou, "To look into"),
        Some(review) if review.explained => layout::state(State::Done, "Explained"),
        Some(_) => layout::state(State::Failed, "Not explained"),
    }
}

fn row(
    ctx: &Ctx,
    access: &UnexplainedAccess,
    names: &HashMap<String, PatientLine>,
    fields: &Fields,
) -> Markup {
    let sentence = Sentence::of(&access.event);
    let patient = name(names, &access.patient);
    let others = sentence.patients.len().saturating_sub(1);
    let with = |name: &str, value: &str| address(fields, name, value);
    let (what, joint) = sentence.what();
    html! {
        li class="sentence" data-key={ (sentence.id) "-" (access.patient) } {
            time class="quiet nowrap" datetime=(iso(sentence.at_ms)) title=(ctx.times.exact(sentence.at_ms)) { (ctx.times.hour(sentence.at_ms)) }
            span {
                a href=(with("who", &sentence.who_id)) { (sentence.actor()) }
                " " (what) " " (joint) " "
                a href=(with("patient", &access.patient)) { (patient) }
                @if others > 0 { " (and of " (layout::count_of(others, "other")) ")" }
                @if !sentence.purpose_words().is_empty() { " " (sentence.purpose_words()) }
                br; (state(access.review.as_ref()))
                @if let Some(review) = &access.review { " " span class="quiet" { (words(review)) " – " (review.name) } }
            }
            a data-act="open" class="nowrap" href={ (HERE) "/" (sentence.id) "/" (access.patient) } {
                @if access.review.is_some() { "See it" } @else { "Look into it" }
                span class="visually-hidden" { ", " (patient) ", " (ctx.times.exact(sentence.at_ms)) }
            }
        }
    }
}

/// The list with one filter, or its place, another.
fn address(fields: &Fields, name: &str, value: &str) -> String {
    let rest = fields.to_query(&[name, "before", "closed"]);
    let joint = if rest.is_empty() { "" } else { "&" };
    format!("{HERE}?{rest}{joint}{name}={}", escape(value))
}

fn words(review: &AccessReview) -> &str {
    let gone = "the words are gone for good, with the key that they were sealed with";
    review.words.as_deref().unwrap_or(gone)
}

/// `GET /console/unexplained`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Audit, None, None).await?;
    let asked = asked(&ctx, &fields);
    let identity = ctx.app.web.trust.identity();
    let found = identity.unexplained(&permit, &asked).await?;
    let shown = found.rows.iter().map(|access| access.patient.clone());
    let names = patient_lines(&ctx, shown.chain(asked.patient.clone())).await?;
    let lines: Vec<(i64, &UnexplainedAccess)> = (found.rows.iter())
        .map(|access| (Sentence::of(&access.event).at_ms, access))
        .collect();
    let who = lines.first().filter(|_| asked.who.is_some());
    let who = who.map_or_else(
        || "one account".to_owned(),
        |(_, access)| Sentence::of(&access.event).actor(),
    );
    let chip = |field: &str, words: &Markup| {
        html! { @if fields.get(field).is_some() { span class="tag" { (words) " " a href={ (HERE) "?" (fields.to_query(&[field, "before"])) } { "remove" } } } }
    };
    let body = html! {
        (layout::head("Unexplained accesses", &count(&found, &asked), &html! {}))
        @match fields.get("closed") {
            Some("yes") => { div class="flash" role="status" { (layout::state(State::Done, "Closed")) } },
            Some("without") => { div class="flash" role="status" { (layout::state(State::Done, "Closed")) " What you wrote could not be kept: the patient's record has been destroyed." } },
            _ => {},
        }
        form class="filters inline-fields" method="get" action=(HERE) data-auto {
            @for field in ["who", "patient"] { @if let Some(value) = fields.get(field) { input type="hidden" name=(field) value=(value); } }
            (select("state", "State", &STATES, chosen(&fields, "state", &STATES)))
            (select("told", "Why it is here", &TOLD, chosen(&fields, "told", &TOLD)))
            (select("days", "When", &DAYS, chosen(&fields, "days", &DAYS)))
            button type="submit" data-auto-hide { "Filter" }
        }
        p class="cluster" {
            (chip("who", &html! { "By " (who) }))
            (chip("patient", &html! { "About " (asked.patient.as_deref().map(|id| name(&names, id)).unwrap_or_default()) }))
        }
        @if lines.is_empty() {
            @if found.complete { (layout::empty("Nothing here", "No such access fits these filters.")) }
        } @else {
            div data-rows {
                @for day in lines.chunk_by(|left, right| ctx.times.day_key(left.0) == ctx.times.day_key(right.0)) {
                    h2 class="day-title" { (ctx.times.day_title(day[0].0)) }
                    ol { @for (_, access) in day { (row(&ctx, access, &names, &fields)) } }
                }
            }
        }
        @if !found.complete { p class="note" { "Counted among the " (layout::thousands(found.looked_at as u64)) " audit records that were looked at for this page, of " (layout::thousands(LOOKED_AT_MAX as u64)) " at most. There may be more further back." } }
        @if let Some(next) = found.next {
            nav class="pager" aria-label="Pages" { a href=(address(&fields, "before", &next.0.to_string())) { "Older" } }
        }
        p class="quiet small" { "Not here, because nothing is recorded of their reasons: some answers about more than 32 patients, and the time before reasons were recorded. A list of work explains that its rows are seen, and who they are for. What was opened in an emergency is under Emergency access." }
    };
    Ok(console(
        &ctx,
        "Unexplained accesses",
        Section::Unexplained,
        None,
        &body,
    ))
}

/// `GET /console/unexplained/{event}/{patient}`: one of them, why it is here, and its review.
pub(crate) async fn one(
    ctx: Ctx,
    Path((event, patient)): Path<(String, String)>,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Audit, None, None).await?;
    let identity = ctx.app.web.trust.identity();
    let found = identity
        .unexplained_access(&permit, &event, &patient)
        .await?;
    let (access, known_as) = found.ok_or(PageError::NotFound)?;
    let sentence = Sentence::of(&access.event);
    let names = patient_lines(&ctx, [patient.clone()]).await?;
    let who = if sentence.who.is_empty() {
        "this account"
    } else {
        &sentence.who
    };
    let known: Vec<&str> = ctx.vault().relations_known().collect();
    let here = format!("{HERE}/{event}/{patient}");
    let body = html! {
        p class="crumbs" { a href=(HERE) { "Unexplained accesses" } }
        (layout::head(&format!("{} {}", sentence.actor(), sentence.what().0), &ctx.times.both(sentence.at_ms), &html! { a class="button" href={ "/console/audit/" (event) } { "The audit record" } }))
        div class="stack-wide" {
            dl class="facts" {
                dt { "State" } dd { (state(access.review.as_ref())) }
                dt { "Patient" } dd { (name(&names, &patient)) " · " a href={ "/console/audit?patient=" (patient) } { "Who looked at this record" } }
                dt { "By" } dd { (sentence.actor()) " · " a href={ "/console/audit?who=" (escape(&sentence.who_id)) } { "What they did" } }
                @if !sentence.purpose.is_empty() { dt { "Purpose" } dd { (sentence.purpose_words()) " " span class="mono quiet" { (sentence.purpose) } } }
            }
            section class="stack" aria-labelledby="why" {
                h2 id="why" { "Why it is here" }
                @if access.unknown {
                    p { "It could not be told at that moment what " (who) " had to do with this patient. There may have been a reason." }
                } @else {
                    p { "At that moment nothing on record said what " (who) " had to do with this patient." }
                }
                p { "Looked for: " (known.join(", ")) "." }
                @if known_as.is_empty() {
                    p class="note" { "Nobody has said who " (who) " is in the directory, so no relationship of theirs can be found. An operator says so with " code { "cairn account known-as" } "." }
                } @else {
                    p class="quiet" { (who) " is now known as " (known_as.join(", ")) "." }
                }
                p { "Why the policies let them look: " a href="/console/access" { "Access" } "." }
            }
            @if let Some(review) = &access.review {
                section class="card stack" aria-label="Review" {
                    p { (state(Some(review))) ": " (words(review)) br;
                        span class="quiet small" { (review.name) ", " (ctx.times.exact(signed(review.at_ms))) } }
                }
            } @else {
                form class="card stack" method="post" action={ (here) "/review" } {
                    (csrf(&ctx))
                    fieldset {
                        legend { "Was there a reason to look?" }
                        label class="choice" { input type="radio" name="outcome" value="explained" required; " Yes, which the record does not show" }
                        label class="choice" { input type="radio" name="outcome" value="not-explained" required; " No" }
                    }
                    label { "What you found" span class="hint" { "10 to 500 characters; closes it for good, and the patient can read it" }
                        textarea name="words" required minlength="10" maxlength="500" autocomplete="off" {} }
                    div { button class="primary" type="submit" { "Close it" } }
                }
            }
        }
    };
    // No name of a patient in the title, and so none in the browser's history.
    Ok(console(
        &ctx,
        "Unexplained access",
        Section::Unexplained,
        None,
        &body,
    ))
}

/// `POST /console/unexplained/{event}/{patient}/review`.
pub(crate) async fn review(
    Path((event, patient)): Path<(String, String)>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx.permit(Action::Audit, None, None).await?;
    let explained = match fields.get("outcome") {
        Some("explained") => true,
        Some("not-explained") => false,
        _ => {
            return Err(PageError::Invalid(
                "Say whether there was a reason.".to_owned(),
            ));
        }
    };
    let words = fields.get("words").unwrap_or_default();
    let identity = ctx.app.web.trust.identity();
    let kept = identity
        .review_access(&permit, &event, &patient, explained, words)
        .await?;
    let said = if kept { "yes" } else { "without" };
    Ok(Redirect::to(&format!("{HERE}?closed={said}")).into_response())
}
