//! The frame of every page, and the small parts that pages share.

use axum::http::{HeaderName, HeaderValue};
use axum::response::{Html, IntoResponse, Response};
use maud::{DOCTYPE, Markup, PreEscaped, html};
use trust::Role;

use crate::assets;
use crate::context::{App, Ctx, RequestInfo};
use crate::live::with_emergency;

/// Goes on by itself to an address.
const REFRESH: HeaderName = HeaderName::from_static("refresh");

/// Makes a page go on at once to an address. Browsers hold where an answer to a form redirects to, and all that follows,
/// against `form-action` of the form's page; a page that goes on is no part of that.
pub(crate) fn goes_on(mut page: Response, address: &str) -> Response {
    if let Ok(value) = HeaderValue::from_str(&format!("0; url={address}")) {
        page.headers_mut().insert(REFRESH, value);
    }
    page
}

/// The five states that everything is in: shape, word and colour.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum State {
    Waiting,
    Running,
    NeedsYou,
    Done,
    Failed,
}

/// A state with the word that fits the thing.
pub(crate) fn state(state: State, word: &str) -> Markup {
    let (class, shape) = match state {
        State::Waiting => ("waiting", "<circle cx='6' cy='6' r='4.5'/>"),
        State::Running => ("running", "<path class='solid' d='M2 1 L11 6 L2 11 Z'/>"),
        State::NeedsYou => (
            "needs-you",
            "<path class='solid' d='M6 0 L12 6 L6 12 L0 6 Z'/>",
        ),
        State::Done => ("done", "<path d='M1.5 6.5 L4.5 9.5 L10.5 2.5'/>"),
        State::Failed => ("failed", "<path d='M2 2 L10 10 M10 2 L2 10'/>"),
    };
    html! {
        span class={ "state " (class) } {
            svg viewBox="0 0 12 12" width="12" height="12" aria-hidden="true" { (PreEscaped(shape)) }
            (word)
        }
    }
}

/// Where a page belongs in the console.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Section {
    Worklist,
    Patients,
    Record,
    Journeys,
    Audit,
    Unexplained,
    Emergencies,
    Access,
    Policies,
    Accounts,
    Apps,
    Mailbox,
    /// One's own sign-in, which is in no menu.
    Own,
}

/// Where a page belongs in the portal.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum PortalSection {
    Home,
    Messages,
    Consent,
    Record,
    Apps,
    Sessions,
    Preferences,
    /// For whom somebody acts.
    ActsFor,
}

fn mark() -> Markup {
    html! {
        svg viewBox="0 0 24 24" width="22" height="22" aria-hidden="true" {
            ellipse cx="12" cy="19" rx="9.5" ry="3.6" {}
            ellipse cx="12.6" cy="12.4" rx="6.4" ry="2.9" {}
            ellipse cx="11.6" cy="6.9" rx="4" ry="2.4" {}
        }
    }
}

fn document(
    app: &App,
    request: &RequestInfo,
    title: &str,
    class: Option<&str>,
    body: &Markup,
) -> Markup {
    let times = app.times();
    html! {
        (DOCTYPE)
        html lang="en" data-theme=[request.theme] data-now=(times.care_ms) data-wall=(times.wall_ms) data-speed=[app.web.demo_speed] {
            head {
                meta charset="utf-8";
                meta name="viewport" content="width=device-width, initial-scale=1";
                meta name="robots" content="noindex";
                title { (title) " · " (app.web.organisation) }
                link rel="icon" type="image/svg+xml" href=(assets::MARK.url);
                link rel="stylesheet" href=(assets::STYLE.url);
                script src=(assets::SCRIPT.url) defer {}
            }
            body class=[class] {
                a class="skip" href="#main" { "Skip to the content" }
                (body)
            }
        }
    }
}

fn theme_form(request: &RequestInfo) -> Markup {
    html! {
        form id="theme" method="post" action="/theme" {
            input type="hidden" name="back" value=(request.here);
            button class="plain" type="submit" { "Light or dark" }
        }
    }
}

/// How fast the demo's clock runs, in words.
fn speed_words(speed: f64) -> String {
    let seconds_per_day = 86_400.0 / speed;
    if (speed - 1.0).abs() < 0.001 {
        "time runs as it does outside".to_owned()
    } else if seconds_per_day >= 90.0 {
        format!(
            "one day here takes {:.0} minutes outside",
            seconds_per_day / 60.0
        )
    } else if seconds_per_day >= 0.95 {
        let seconds = format!("{seconds_per_day:.1}");
        let seconds = seconds.trim_end_matches(".0");
        format!(
            "one day here takes {seconds} {} outside",
            if seconds == "1" { "second" } else { "seconds" }
        )
    } else {
        format!(
            "{:.0} days here take one second outside",
            1.0 / seconds_per_day
        )
    }
}

/// In the demo the care clock differs from the wall clock, so pages show it.
fn demo_clock(app: &App) -> Markup {
    let times = app.times();
    html! {
        @if let Some(speed) = app.web.demo_speed {
            div class="clock" {
                div class="clock-in" {
                    span class="tag demo-tag" { "Demo" }
                    span {
                        "It is "
                        span class="strong" id="care-clock" data-zone=(times.zone_name()) data-suffix=(times.zone_short()) { (times.exact(times.care_ms)) }
                        ": " (speed_words(speed)) ". " (demo_people(app))
                    }
                }
            }
        }
    }
}

/// Whether the people of a demo are real ones is not known when they came from files.
pub(crate) fn demo_people(app: &App) -> &'static str {
    if app.web.demo_people_imported {
        "The people here came from files and may be real; what happens to them here is played."
    } else {
        "All people here are made up."
    }
}

fn identity(ctx: &Ctx) -> Markup {
    let role = role_words(ctx.role());
    html! {
        div class="bar-end" {
            (theme_form(&ctx.request))
            @if !ctx.role().has_one_record() {
                div class="who" { span class="strong" { (ctx.session.agent.name) } br; span class="quiet" { (role) " · " a href="/console/sign-in" { "Your sign-in" } } }
            }
            form method="post" action="/sign-out" {
                (csrf(ctx))
                button type="submit" { "Sign out" }
            }
        }
    }
}

/// A role in words.
pub(crate) fn role_words(role: Role) -> &'static str {
    match role {
        Role::Coordinator => "coordinator",
        Role::Clinician => "clinician",
        Role::PrivacyOfficer => "privacy officer",
        Role::Squad => "squad",
        Role::Administrator => "administrator",
        Role::Biller => "biller",
        Role::Patient => "patient",
        Role::Proxy => "acts for the patient",
        Role::System => "Cairn itself",
        Role::Client => "another system",
        Role::Steerer => "steers journeys",
    }
}

fn sections(ctx: &Ctx) -> Vec<(Section, &'static str, &'static str)> {
    let mut sections = match ctx.role() {
        Role::Coordinator | Role::Clinician => {
            vec![
                (Section::Worklist, "/console/worklist", "Worklist"),
                (Section::Patients, "/console/patients", "Patients"),
                (Section::Record, "/console/record", "Record"),
                (Section::Journeys, "/console/journeys", "Journeys"),
                (Section::Apps, "/console/apps", "Apps"),
            ]
        }
        Role::PrivacyOfficer => vec![
            (Section::Audit, "/console/audit", "Audit"),
            (Section::Unexplained, "/console/unexplained", "Unexplained"),
            (
                Section::Emergencies,
                "/console/emergencies",
                "Emergency access",
            ),
            (Section::Access, "/console/access", "Access"),
            (Section::Policies, "/console/policies", "Policies"),
        ],
        Role::Administrator => vec![
            (Section::Accounts, "/console/accounts", "Accounts"),
            (Section::Access, "/console/access", "Access"),
            (Section::Policies, "/console/policies", "Policies"),
            (Section::Journeys, "/console/journeys", "Journeys"),
        ],
        Role::Biller => vec![(Section::Record, "/console/record", "Record")],
        _ => vec![(Section::Journeys, "/console/journeys", "Journeys")],
    };
    // The mailbox holds patients' messages, so it is for those who may read these.
    if ctx.app.web.mailbox.is_some() && matches!(ctx.role(), Role::Coordinator | Role::Clinician) {
        sections.push((Section::Mailbox, "/console/mailbox", "Mailbox (demo)"));
    }
    sections
}

/// How many emergency accesses wait for a privacy officer.
fn to_review(ctx: &Ctx) -> Markup {
    let waiting = ctx.emergencies;
    html! {
        @if waiting.open > 0 {
            " " span class="count" data-overdue=[(waiting.overdue > 0).then_some("yes")] {
                (waiting.open) @if waiting.more { "+" } span class="visually-hidden" { " to review" @if waiting.overdue > 0 { ", " (waiting.overdue) @if waiting.more_overdue { "+" } " overdue" } }
            }
        }
    }
}

/// A page of the console. `live` is the address of its updates.
pub(crate) fn console(
    ctx: &Ctx,
    title: &str,
    section: Section,
    live: Option<&str>,
    body: &Markup,
) -> Response {
    let body = html! {
        header class="bar" {
            div class="bar-in" {
                a class="brand" href=(ctx.home()) { (mark()) span class="brand-name" { (ctx.app.web.organisation) } }
                nav class="nav" aria-label="Console" {
                    @for (id, href, name) in sections(ctx) {
                        a href=(href) aria-current=[(id == section).then_some("page")] { (name) @if id == Section::Emergencies { (to_review(ctx)) } }
                    }
                }
                (identity(ctx))
            }
            (demo_clock(&ctx.app))
        }
        main id="main" tabindex="-1" data-live=[live.map(|live| with_emergency(ctx, live))] { (notices(ctx)) (body) }
    };
    Html(document(&ctx.app, &ctx.request, title, None, &body).into_string()).into_response()
}

/// What the law wants beside what is on the page, as the rules say it (42 CFR 2.32).
fn notices(ctx: &Ctx) -> Markup {
    html! {
        @for notice in ctx.freshness.notices() { p class="note" role="note" { (notice) } }
    }
}

/// On every page of somebody who acts for a patient: for whom. That something may be kept from them is said
/// whether there is any or not.
fn acts_for(ctx: &Ctx) -> Markup {
    html! {
        @if ctx.role() == Role::Proxy {
            div class="acts-for" role="note" {
                p {
                    @if let Some(acting) = &ctx.acting {
                        "You act for " span class="strong" { @if acting.patient_name.is_empty() { "somebody without a name on record" } @else { (acting.patient_name) } }
                        ": “you” on these pages is them."
                        @if acting.is_kept { " At their age they keep some things to themselves, and these pages leave such things out, if there are any." }
                    } @else { "You act for nobody here." }
                }
            }
        }
    }
}

/// A page of the portal.
pub(crate) fn portal(
    ctx: &Ctx,
    title: &str,
    section: Option<PortalSection>,
    live: Option<&str>,
    body: &Markup,
) -> Response {
    let of_proxy = [
        (PortalSection::Home, "/portal", "What is next"),
        (PortalSection::Messages, "/portal/inbox", "Messages"),
        (
            PortalSection::Preferences,
            "/portal/preferences/messages",
            "Which messages",
        ),
        (PortalSection::ActsFor, "/portal/for", "For whom you act"),
        (PortalSection::Sessions, "/portal/sessions", "Sign-ins"),
    ];
    let of_patient = [
        (PortalSection::Home, "/portal", "What is next"),
        (PortalSection::Messages, "/portal/inbox", "Messages"),
        (PortalSection::Consent, "/portal/consent", "Permissions"),
        (PortalSection::Record, "/portal/record", "Who looked"),
        (PortalSection::Apps, "/portal/apps", "Apps"),
        (PortalSection::Sessions, "/portal/sessions", "Sign-ins"),
        (
            PortalSection::Preferences,
            "/portal/preferences",
            "How we reach you",
        ),
    ];
    // Who keeps something to themselves says alone which messages they want.
    let is_kept = ctx.acting.as_ref().is_some_and(|acting| acting.is_kept);
    let sections: &[_] = if ctx.role() == Role::Proxy {
        &of_proxy
    } else {
        &of_patient
    };
    let body = html! {
        header class="bar" {
            div class="bar-in" {
                a class="brand" href="/portal" { (mark()) span class="brand-name" { (ctx.app.web.organisation) } }
                (identity(ctx))
            }
            div class="bar-in" {
                nav class="nav" aria-label="Your pages" {
                    @for (id, href, name) in sections.iter().filter(|(id, ..)| !is_kept || *id != PortalSection::Preferences) {
                        a href=(href) aria-current=[(Some(*id) == section).then_some("page")] { (name) }
                    }
                }
            }
            (acts_for(ctx))
            (demo_clock(&ctx.app))
        }
        main id="main" tabindex="-1" data-live=[live.map(|live| with_emergency(ctx, live))] { (notices(ctx)) (body) }
    };
    Html(document(&ctx.app, &ctx.request, title, Some("portal"), &body).into_string())
        .into_response()
}

/// A page for people who are not signed in, and for errors.
pub(crate) fn bare(app: &App, request: &RequestInfo, title: &str, body: &Markup) -> Response {
    let class = request.here.starts_with("/portal").then_some("portal");
    bare_as(app, request, title, class, body)
}

/// As [`bare`], in the portal's roomy type where `class` says so.
pub(crate) fn bare_as(
    app: &App,
    request: &RequestInfo,
    title: &str,
    class: Option<&str>,
    body: &Markup,
) -> Response {
    let body = html! {
        header class="bar" {
            div class="bar-in" {
                a class="brand" href="/" { (mark()) span class="brand-name" { (app.web.organisation) } }
                div class="bar-end" { (theme_form(request)) }
            }
            (demo_clock(app))
        }
        main id="main" tabindex="-1" { (body) }
    };
    Html(document(app, request, title, class, &body).into_string()).into_response()
}

/// The hidden field that every form of a session carries.
pub(crate) fn csrf(ctx: &Ctx) -> Markup {
    html! { input type="hidden" name="csrf" value=(ctx.session.csrf); }
}

/// Text for between tags, where quotes may stay as they are; raw records consist of little else.
pub(crate) fn escaped(text: &str) -> PreEscaped<String> {
    PreEscaped(
        text.replace('&', "&amp;")
            .replace('<', "&lt;")
            .replace('>', "&gt;"),
    )
}

/// Nothing here, and what to do next.
pub(crate) fn empty(title: &str, next: &str) -> Markup {
    html! { div class="empty" { strong { (title) } (next) } }
}

/// The light that says whether the page is live. Hidden from those who have no script.
pub(crate) fn live_light() -> Markup {
    html! { span class="live" id="live" role="status" data-on="no" {} }
}

/// The head of a page: title, a sentence, and what can be done.
pub(crate) fn head(title: &str, sentence: &Markup, actions: &Markup) -> Markup {
    html! {
        div class="head" {
            div { h1 { (title) } p class="quiet" { (sentence) } }
            div class="cluster" { (actions) }
        }
    }
}

/// Words that begin with their state (`Waits for …`): the first word gets the shape.
pub(crate) fn state_line(state_of: State, words: &str) -> Markup {
    let (first, rest) = words.split_once(' ').unwrap_or((words, ""));
    html! { (state(state_of, first)) " " (rest) }
}

/// A short form of a patient's id, where the name may not be shown.
pub(crate) fn short_id(id: &str) -> String {
    let tail: String = id
        .chars()
        .rev()
        .take(6)
        .collect::<Vec<_>>()
        .into_iter()
        .rev()
        .collect();
    format!("…{tail}")
}

/// `1 patient`, `2 patients`.
pub(crate) fn count_of(count: usize, one: &str) -> String {
    format!(
        "{} {one}{}",
        thousands(u64::try_from(count).unwrap_or(u64::MAX)),
        if count == 1 { "" } else { "s" }
    )
}

/// `12,345`.
pub(crate) fn thousands(number: u64) -> String {
    let digits = number.to_string();
    let mut out = String::new();
    for (place, digit) in digits.chars().enumerate() {
        if place > 0 && (digits.len() - place).is_multiple_of(3) {
            out.push(',');
        }
        out.push(digit);
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_in_words() {
        assert_eq!(thousands(0), "0");
        assert_eq!(thousands(999), "999");
        assert_eq!(thousands(1_000), "1,000");
        assert_eq!(thousands(1_234_567), "1,234,567");
        assert_eq!(count_of(1, "patient"), "1 patient");
        assert_eq!(count_of(2_000, "patient"), "2,000 patients");
        assert_eq!(short_id("0f-abcdefgh"), "…cdefgh");
    }

    #[test]
    fn the_speed_of_the_demo_in_words() {
        for (speed, words) in [
            (1.0, "time runs as it does outside"),
            (86_400.0 / 5.0, "one day here takes 5 seconds outside"),
            (86_400.0, "one day here takes 1 second outside"),
            (864_000.0, "10 days here take one second outside"),
            (144.0, "one day here takes 10 minutes outside"),
        ] {
            assert_eq!(speed_words(speed), words);
        }
    }
}
