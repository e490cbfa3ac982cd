//! Which messages a patient wants, by which ways, and when: said in the portal by the patient or by who acts for them, and
//! written down by clinicians. One form, one resource, and no address on it: who acts for a patient sees none.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Resource, ResourceType};
use ledger::Expected;
use maud::{Markup, html};
use serde_json::{Value, json};
use trust::consent::{QuietHours, Topic, Via, Wishes, time_of_day};
use trust::conventions::ACCOUNT_SYSTEM;
use trust::{Action, Change, Role, Unit};

use crate::context::{Ctx, Fields, Posted};
use crate::error::PageError;
use crate::layout::{self, PortalSection, Section, State, console, csrf, portal};
use crate::portal::languages::ENGLISH;
use crate::time::fhir_time;

/// Hours of a day that have to be left for messages; who wants none at all chooses the inbox.
const OPEN_MINUTES_MIN: i32 = 4 * 60;
/// Minutes of a day.
const DAY_MINUTES: i32 = 24 * 60;
/// The portal's page.
const OWN_PAGE: &str = "/portal/preferences/messages";

/// Ways to choose from, as the form calls them. The first is what journeys say.
const WAYS: [&str; 6] = ["usual", "email,sms", "sms,email", "email", "sms", "inbox"];
/// Those besides where there are notifications; before the inbox.
const WITH_PUSH: [&str; 4] = ["push,email", "push,sms", "push,sms,email", "push"];

/// Those besides where there are letters, and where patients are called; before the inbox.
const WITH_LETTERS: [&str; 2] = ["email,letter", "letter"];
const WITH_CALLS: [&str; 2] = ["sms,voice", "voice"];

/// Names of languages, each in itself.
const NAMES: [(&str, &str); 20] = [
    ("ar", "العربية"),
    ("bn", "বাংলা"),
    ("de", "Deutsch"),
    ("en", "English"),
    ("es", "Español"),
    ("fa", "فارسی"),
    ("fr", "Français"),
    ("hi", "हिन्दी"),
    ("it", "Italiano"),
    ("ja", "日本語"),
    ("ko", "한국어"),
    ("nl", "Nederlands"),
    ("pl", "Polski"),
    ("pt", "Português"),
    ("ru", "Русский"),
    ("so", "Soomaali"),
    ("tr", "Türkçe"),
    ("uk", "Українська"),
    ("ur", "اردو"),
    ("zh", "中文"),
];

/// What a topic is, to somebody who is asked about it.
fn topic_words(topic: Topic) -> (&'static str, &'static str) {
    match topic {
        Topic::Visits => ("Visits", "Booking one, reminders of one, what to bring"),
        Topic::Forms => (
            "Questions and forms",
            "That there is one to answer, and reminders",
        ),
        Topic::Care => ("The care plan", "All other news"),
    }
}

fn code_of(ways: Option<&[Via]>) -> String {
    match ways {
        None => "usual".to_owned(),
        Some([]) => "inbox".to_owned(),
        Some(ways) => {
            let codes: Vec<&str> = ways.iter().map(|way| way.code()).collect();
            codes.join(",")
        }
    }
}

/// A choice, in words.
fn ways_words(code: &str) -> String {
    match code {
        "usual" => return "The usual way".to_owned(),
        "inbox" => return "Only the inbox here".to_owned(),
        _ => {}
    }
    let word = |way: Via| match way {
        Via::Email => "e-mail",
        Via::Sms => "text message",
        Via::Push => "notification",
        Via::Letter => "letter",
        Via::Voice => "telephone call",
    };
    let words: Vec<&str> = code.split(',').filter_map(Via::parse).map(word).collect();
    let mut words = match words.as_slice() {
        [one] => format!("{one} only"),
        several => several.join(", then "),
    };
    if let Some(first) = words.get_mut(..1) {
        first.make_ascii_uppercase();
    }
    words
}

/// What there is to choose from. What was chosen is among it, whoever wrote it down and in whichever order.
fn choices<'a>(chosen: &'a str, has_push: bool, carried: &[Via]) -> Vec<&'a str> {
    let mut codes = WAYS.to_vec();
    if has_push || chosen.split(',').any(|way| way == Via::Push.code()) {
        codes.splice(5..5, WITH_PUSH);
    }
    for (way, choices) in [(Via::Letter, WITH_LETTERS), (Via::Voice, WITH_CALLS)] {
        if carried.contains(&way) {
            // The inbox alone is the last choice.
            let before = codes.len() - 1;
            codes.splice(before..before, choices);
        }
    }
    if !codes.contains(&chosen) {
        codes.push(chosen);
    }
    codes
}

/// What a form says of a topic.
#[allow(
    clippy::option_option,
    reason = "what journeys say is a choice, and what means nothing is none"
)]
fn ways_of(code: &str) -> Option<Option<Vec<Via>>> {
    match code {
        "usual" => Some(None),
        "inbox" => Some(Some(Vec::new())),
        code => {
            let ways: Vec<Via> = code.split(',').map(Via::parse).collect::<Option<_>>()?;
            let is_twice =
                |(place, way): (usize, &Via)| ways.iter().take(place).any(|one| one == way);
            let has_twice = ways.iter().enumerate().any(is_twice);
            (!has_twice).then_some(Some(ways))
        }
    }
}

fn minutes(time: jiff::civil::Time) -> i32 {
    i32::from(time.hour()) * 60 + i32::from(time.minute())
}

/// The hours that a form says; none where it says none.
fn quiet_of(fields: &Fields) -> Result<Option<QuietHours>, PageError> {
    let wrong = |words: &str| Err(PageError::Invalid(words.to_owned()));
    let (from, until) = match (fields.get("from"), fields.get("until")) {
        (None, None) => return Ok(None),
        (Some(from), Some(until)) => (time_of_day(from), time_of_day(until)),
        _ => return wrong("Please say both, from when and until when; or leave both empty."),
    };
    let (Ok(from), Ok(until)) = (from, until) else {
        return wrong("That is no time of day. Please write it like 21:00.");
    };
    let length = (minutes(until) - minutes(from)).rem_euclid(DAY_MINUTES);
    if length == 0 || DAY_MINUTES - length < OPEN_MINUTES_MIN {
        return wrong(
            "Please leave at least four hours of the day for messages. To get none by e-mail, text message or notification, choose the inbox.",
        );
    }
    Ok(Some(QuietHours { from, until }))
}

/// What a form says in all.
fn said(fields: &Fields) -> Result<Wishes, PageError> {
    let mut wishes = Wishes::default();
    for topic in Topic::ALL {
        let code = fields.get(topic.code()).unwrap_or_default();
        let ways = ways_of(code)
            .ok_or_else(|| PageError::Invalid("Please choose one of the ways.".to_owned()))?;
        wishes.set_ways(topic, ways);
    }
    match fields.get("level") {
        Some("all") => {}
        Some("important") => wishes.set_only_important(true),
        _ => {
            return Err(PageError::Invalid(
                "Please choose how many messages.".to_owned(),
            ));
        }
    }
    wishes.set_quiet(quiet_of(fields)?);
    Ok(wishes)
}

/// What is there: the wishes, their version (0 where nothing was said yet), and who said them.
struct Found {
    wishes: Wishes,
    version: u32,
    by: Option<String>,
}

/// What a patient has said.
pub(crate) async fn of(ctx: &Ctx, patient: &str) -> Result<Wishes, PageError> {
    Ok(find(ctx, patient).await?.wishes)
}

async fn find(ctx: &Ctx, patient: &str) -> Result<Found, PageError> {
    let kind = ResourceType::Basic;
    let permit = ctx.permit(Action::Read, Some(kind), Some(patient)).await?;
    let id = ctx.vault().wishes_id(ctx.app.web.tenant, patient);
    let found = ctx.vault().read(&permit, kind, &id).await?;
    let version = found.as_ref().map_or(0, |found| found.version);
    let live = found.filter(|found| !found.deleted);
    let by = live
        .as_ref()
        .and_then(|found| last(ctx, patient, &found.resource));
    let wishes = live.map(|found| Wishes::of(patient, &found.resource));
    Ok(Found {
        wishes: wishes.unwrap_or_default(),
        version,
        by,
    })
}

/// When it was said last, and by whom.
fn last(ctx: &Ctx, patient: &str, resource: &Resource) -> Option<String> {
    let at = resource.text_at(&["meta", "lastUpdated"])?;
    let (at_ms, ..) = fhir_time(&ctx.times, at)?;
    let own = format!("Patient/{patient}");
    let is_staff = !ctx.role().has_one_record();
    let who = match resource.text_at(&["author", "reference"]) {
        Some(by) if by == own && is_staff => "the patient",
        Some(by) if by == own && ctx.role() == Role::Proxy => "the patient",
        Some(by) if by == own => "you",
        Some(by) if by.starts_with("RelatedPerson/") => "somebody who acts for the patient",
        _ => "the care team",
    };
    Some(format!("Last said on {} by {who}.", ctx.times.date(at_ms)))
}

/// Writes down what a form says, over the version that its page showed.
async fn write(
    ctx: &Ctx,
    patient: &str,
    action: Action,
    author: Value,
    fields: &Fields,
) -> Result<(), PageError> {
    let wishes = said(fields)?;
    let shown: u32 = (fields.get("version").unwrap_or_default())
        .parse()
        .map_err(|_| PageError::Conflict)?;
    let kind = ResourceType::Basic;
    let permit = ctx.permit(action, Some(kind), Some(patient)).await?;
    let id = ctx.vault().wishes_id(ctx.app.web.tenant, patient);
    let found = ctx.vault().load(&permit, kind, &id).await?;
    if found.as_ref().map_or(0, |found| found.version) != shown {
        return Err(PageError::Conflict);
    }
    let expected = found.as_ref().map(|found| found.version);
    let mut resource = found
        .filter(|found| !found.deleted)
        .map_or_else(|| Resource::new(kind), |found| found.resource);
    resource.strip_meta();
    resource.set_id(&id);
    wishes.write(patient, &mut resource);
    let now_ms = u64::try_from(ctx.times.care_ms).unwrap_or_default();
    let today = fhir::date::instant(now_ms);
    resource.set("created", json!(today.get(..10)));
    resource.set("author", author);
    let unit = Unit {
        changes: vec![Change::Put {
            resource,
            expected: expected.map_or(Expected::Absent, Expected::Version),
        }],
        note: Some("which messages are wanted, and how".to_owned()),
        patient: Some(patient.to_owned()),
        ..Unit::default()
    };
    ctx.vault().commit(&permit, unit).await?;
    Ok(())
}

/// The form. `you` is whether it speaks to the patient, or to who acts for them.
fn form(ctx: &Ctx, address: &str, found: &Found, you: bool) -> Markup {
    let wishes = &found.wishes;
    let time = |pick: fn(QuietHours) -> jiff::civil::Time| {
        wishes.quiet().map(|quiet| {
            let time = pick(quiet);
            format!("{:02}:{:02}", time.hour(), time.minute())
        })
    };
    let has_push = ctx.app.web.notifies();
    let carried = ctx.app.web.carried.as_slice();
    let level = |value: &str, checked: bool, words: &str, more: &str| {
        html! {
            label class="choice" { input type="radio" name="level" value=(value) checked[checked]; span { (words) br; span class="quiet small" { (more) } } }
        }
    };
    html! {
        form class="stack-wide" method="post" action=(address) {
            (csrf(ctx))
            input type="hidden" name="version" value=(found.version);
            section class="stack" aria-labelledby="ways" {
                h2 id="ways" { "What, and how" }
                div class="fields" {
                    @for topic in Topic::ALL {
                        @let (words, more) = topic_words(topic);
                        @let chosen = code_of(wishes.ways(topic));
                        label { (words) span class="hint" { (more) }
                            select name=(topic.code()) {
                                @for value in choices(&chosen, has_push, carried) { option value=(value) selected[value == chosen] { (ways_words(value)) } }
                            }
                        }
                    }
                }
                p class="quiet small" { "“The usual way” is what each programme does: most write by e-mail first. The second way is used where the first fails. A way for which there is no address or number is passed over." @if has_push { " So are notifications where they are turned on on no device." } }
            }
            fieldset class="stack" {
                legend { h2 { "How many" } }
                (level("all", !wishes.only_important(), "All of them", "Whatever the programmes have to say"))
                (level("important", wishes.only_important(), "Only what is important", "What the care team has marked as important is sent. Most of the rest lies in the inbox, and nobody is told of it."))
            }
            section class="stack" aria-labelledby="quiet" {
                h2 id="quiet" { "When not" }
                p { @if you { "Hours in which we send you nothing, by the clock where you live. " } @else { "Hours in which nothing is sent, by the clock where the patient lives. " } "What comes in them is sent after them. If that is too late, most of it lies in the inbox." }
                div class="fields" {
                    label { "From" span class="hint" { "Such as 20:00; leave both empty for none" } input type="text" name="from" value=[time(|quiet| quiet.from)] maxlength="5" autocomplete="off"; }
                    label { "Until" span class="hint" { "Such as 08:00, also on the next day" } input type="text" name="until" value=[time(|quiet| quiet.until)] maxlength="5" autocomplete="off"; }
                }
                p class="quiet small" { "The hours in which this organisation sends nothing hold besides." }
            }
            div { button class="primary" type="submit" { "Save" } }
        }
    }
}

/// What the choices mean, and what they don't.
fn meaning(you: bool) -> Markup {
    html! {
        section class="card stack" aria-labelledby="means" {
            h2 id="means" { "What this means" }
            p { "It counts as soon as it is saved, also for messages that wait to be sent. A message that has left can't be called back." }
            p { "What the care team has marked as clinically urgent is sent at once: at any hour, and by any way that isn't switched off altogether." }
            p { @if you { "These choices are about how we tell you. What is in your inbox here stays there, and your visits and forms go on as planned." } @else { "These choices are about how the patient is told. The inbox, visits and forms go on as planned." } }
            p { "A way that is switched off, STOP sent from a telephone, and a wish to be reached at one place only hold whatever is chosen here." }
        }
    }
}

fn saved(fields: &Fields) -> Markup {
    let words = match fields.get("said") {
        Some("saved") => "Saved. It counts from now on, also for messages that wait.",
        Some("language") => {
            "Saved. The next messages are in that language, where they are there in it."
        }
        _ => return html! {},
    };
    html! { div class="flash" role="status" { (layout::state(State::Done, "Done")) (words) } }
}

// Languages.

/// A language in its own words.
fn name_of(tag: &str) -> &str {
    let language = tag.split('-').next().unwrap_or(tag);
    let mut names = NAMES.iter();
    names
        .find(|(code, _)| *code == tag || (*code == language && !tag.contains('-')))
        .map_or(tag, |(_, name)| *name)
}

/// The languages that there are messages in, and that which the patient prefers of them.
async fn languages(
    ctx: &Ctx,
    patient: &Resource,
) -> Result<(Vec<String>, Option<String>), PageError> {
    let journeys = &ctx.app.web.journeys;
    let mut all = journeys.languages(ctx.app.web.tenant).await?;
    if !all.iter().any(|tag| tag == ENGLISH) {
        all.push(ENGLISH.to_owned());
    }
    all.sort();
    let others: Vec<&str> = all.iter().map(String::as_str).collect();
    // Nothing is preferred where no language is on record, or none that there are messages in.
    let chosen = journey::preferred_language(patient, "zxx", &others).map(str::to_owned);
    Ok((all, chosen))
}

fn language_form(ctx: &Ctx, address: &str, (all, chosen): (&[String], Option<&str>)) -> Markup {
    html! {
        @if all.len() > 1 {
            section class="stack" aria-labelledby="language" {
                h2 id="language" { "Language" }
                form class="fields" method="post" action=(address) {
                    (csrf(ctx))
                    input type="hidden" name="do" value="language";
                    label { "Language of messages" span class="hint" { "Messages that aren't there in it come in the one that they were written in" }
                        select name="language" {
                            @if chosen.is_none() { option value="" selected { "Not chosen yet" } }
                            @for tag in all { option value=(tag) lang=(tag) selected[chosen == Some(tag)] { (name_of(tag)) } }
                        }
                    }
                    div { button type="submit" { "Use this language" } }
                }
            }
        }
    }
}

/// Says in a `Patient` which language is preferred; the others stay.
fn set_language(patient: &mut Resource, tag: &str) {
    let all = patient.get("communication").and_then(Value::as_array);
    let mut all = all.cloned().unwrap_or_default();
    let is_it = |one: &Value| {
        let codings = one["language"]["coding"].as_array();
        let mut codings = codings.into_iter().flatten();
        codings.any(|coding| coding["code"] == tag)
    };
    for one in &mut all {
        if let Some(members) = one.as_object_mut() {
            members.remove("preferred");
        }
    }
    match all.iter_mut().find(|one| is_it(one)) {
        Some(one) => one["preferred"] = json!(true),
        None => all.push(json!({
            "language": {"coding": [{"system": "urn:ietf:bcp:47", "code": tag}]},
            "preferred": true,
        })),
    }
    patient.set("communication", Value::Array(all));
}

/// The language that a form chooses, of those that there are.
async fn chosen(ctx: &Ctx, fields: &Fields) -> Result<String, PageError> {
    let mut all = (ctx.app.web.journeys).languages(ctx.app.web.tenant).await?;
    all.push(ENGLISH.to_owned());
    let tag = fields.get("language").unwrap_or_default();
    all.into_iter()
        .find(|known| known == tag)
        .ok_or_else(|| PageError::Invalid("Please choose one of the languages.".to_owned()))
}

// In the portal.

/// Whose it is to say, in the portal: the patient's, or that of who acts for them. Who keeps some things to themselves
/// at their age decides this alone.
fn whose(ctx: &Ctx) -> Result<&str, PageError> {
    let patient = ctx.own_patient()?;
    if ctx.acting.as_ref().is_some_and(|acting| acting.is_kept) {
        return Err(PageError::Refused(
            "At their age the patient decides alone which messages they want.".to_owned(),
        ));
    }
    Ok(patient)
}

async fn own(ctx: &Ctx, patient: &str) -> Result<Resource, PageError> {
    let kind = ResourceType::Patient;
    let permit = ctx.permit(Action::Read, Some(kind), Some(patient)).await?;
    let found = ctx.vault().read(&permit, kind, patient).await?;
    let found = found.filter(|found| !found.deleted);
    Ok(found.ok_or(PageError::NotFound)?.resource)
}

/// `GET /portal/preferences/messages`.
pub(crate) async fn own_page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    let patient = whose(&ctx)?;
    let found = find(&ctx, patient).await?;
    let is_proxy = ctx.role() == Role::Proxy;
    // Who acts for a patient changes nothing of who they are.
    let language = if is_proxy {
        html! {}
    } else {
        let (all, chosen) = languages(&ctx, &own(&ctx, patient).await?).await?;
        language_form(&ctx, OWN_PAGE, (&all, chosen.as_deref()))
    };
    let title = "Which messages you want";
    let body = html! {
        div class="stack-wide" {
            @if !is_proxy { p class="crumbs" { a href="/portal/preferences" { "How we reach you" } } }
            (saved(&fields))
            h1 { (title) }
            p { "Choose which messages may reach you, how, and when. What we send outside of these pages never says anything about your health." }
            @if let Some(by) = &found.by { p class="quiet" { (by) } }
            (form(&ctx, OWN_PAGE, &found, true))
            (meaning(true))
            (language)
        }
    };
    let section = Some(PortalSection::Preferences);
    Ok(portal(&ctx, title, section, None, &body))
}

/// `POST /portal/preferences/messages`.
pub(crate) async fn set_own(Posted { ctx, fields }: Posted) -> Result<Response, PageError> {
    let patient = whose(&ctx)?.to_owned();
    if fields.get("do") == Some("language") {
        ctx.patient_alone()?;
        let tag = chosen(&ctx, &fields).await?;
        crate::portal::change(
            &ctx,
            ResourceType::Patient,
            &patient,
            "the language of messages chosen in the portal",
            |own| {
                set_language(own, &tag);
                Ok(Vec::new())
            },
        )
        .await?;
        return Ok(Redirect::to(&format!("{OWN_PAGE}?said=language")).into_response());
    }
    let author = json!({ "reference": ctx.own_reference()? });
    write(&ctx, &patient, Action::Work, author, &fields).await?;
    Ok(Redirect::to(&format!("{OWN_PAGE}?said=saved")).into_response())
}

// In the console.

fn checked(ctx: &Ctx, id: &str) -> Result<(), PageError> {
    ctx.staff()?;
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    if ctx.role() != Role::Clinician {
        return Err(PageError::Refused(
            "Which messages a patient wants is written down by clinicians, or by the patient in the portal.".to_owned(),
        ));
    }
    Ok(())
}

fn address(id: &str) -> String {
    format!("/console/patients/{id}/messages")
}

/// `GET /console/patients/{id}/messages`.
pub(crate) async fn page(
    ctx: Ctx,
    Path(id): Path<String>,
    fields: Fields,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    let patient = own(&ctx, &id).await?;
    let found = find(&ctx, &id).await?;
    let (all, chosen) = languages(&ctx, &patient).await?;
    let title = "Which messages the patient wants";
    let body = html! {
        p class="crumbs" { a href={ "/console/patients/" (id) } { "Patient" } }
        (saved(&fields))
        div class="stack-wide" {
            h1 { (title) }
            p { "Write down what the patient, or who acts for them, has told you. They see it in the portal, with who wrote it, and can change it there." }
            @if let Some(by) = &found.by { p class="quiet" { (by) } }
            (form(&ctx, &address(&id), &found, false))
            (meaning(false))
            (language_form(&ctx, &address(&id), (&all, chosen.as_deref())))
        }
    };
    Ok(console(&ctx, title, Section::Patients, None, &body))
}

/// `POST /console/patients/{id}/messages`.
pub(crate) async fn set(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    checked(&ctx, &id)?;
    let back =
        |said: &str| Ok(Redirect::to(&format!("{}?said={said}", address(&id))).into_response());
    // Nothing is written down of somebody who isn't there.
    own(&ctx, &id).await?;
    if fields.get("do") == Some("language") {
        let tag = chosen(&ctx, &fields).await?;
        let kind = ResourceType::Patient;
        let permit = ctx.permit(Action::Update, Some(kind), Some(&id)).await?;
        let found = ctx.vault().load(&permit, kind, &id).await?;
        let found = found.filter(|found| !found.deleted);
        let found = found.ok_or(PageError::NotFound)?;
        let mut patient = found.resource;
        set_language(&mut patient, &tag);
        patient.strip_meta();
        let unit = Unit {
            changes: vec![Change::Put {
                resource: patient,
                expected: Expected::Version(found.version),
            }],
            note: Some("the language of messages written down by staff".to_owned()),
            patient: Some(id.clone()),
            ..Unit::default()
        };
        ctx.vault().commit(&permit, unit).await?;
        return back("language");
    }
    let agent = &ctx.session.agent;
    let author = json!({
        "identifier": { "system": ACCOUNT_SYSTEM, "value": agent.id },
        "display": agent.name,
    });
    write(&ctx, &id, Action::Update, author, &fields).await?;
    back("saved")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_chosen_is_what_is_shown() {
        for code in WAYS.into_iter().chain(WITH_PUSH).chain(["email,push"]) {
            let ways = ways_of(code).unwrap();
            assert_eq!(code_of(ways.as_deref()), code);
            assert!(choices(code, false, &[]).contains(&code), "{code}");
        }
        for code in [
            "",
            "sms,sms",
            "email,inbox",
            "fax",
            "usual,email",
            "EMAIL",
            "push,sms,push",
        ] {
            assert_eq!(ways_of(code), None, "{code}");
        }
        assert_eq!(choices("usual", false, &[]), WAYS);
        assert_eq!(
            choices("usual", true, &[]).len(),
            WAYS.len() + WITH_PUSH.len()
        );
        for (code, words) in [
            ("email,sms", "E-mail, then text message"),
            ("sms", "Text message only"),
            (
                "push,sms,email",
                "Notification, then text message, then e-mail",
            ),
            ("email,push", "E-mail, then notification"),
        ] {
            assert_eq!(ways_words(code), words);
        }
    }

    #[test]
    fn hours_are_both_there_and_leave_some_of_the_day() {
        let fields = |from: &str, until: &str| {
            let pair = |name: &str, value: &str| (name.to_owned(), value.to_owned());
            quiet_of(&Fields(vec![pair("from", from), pair("until", until)]))
        };
        assert_eq!(fields("", ""), Ok(None));
        for (from, until) in [("21:00", "08:00"), ("08:00", "17:30"), ("08:00", "04:00")] {
            assert!(fields(from, until).unwrap().is_some(), "{from} {until}");
        }
        for (from, until) in [
            ("21:00", ""),
            ("", "08:00"),
            ("9", "10:00"),
            ("24:00", "08:00"),
            ("21:00", "21:00"),
            ("08:00", "07:00"),
            ("08:00", "04:01"),
            ("<b>", "08:00"),
        ] {
            assert!(fields(from, until).is_err(), "{from} {until}");
        }
    }

    #[test]
    fn one_language_is_preferred_and_the_others_stay() {
        let mut patient = Resource::from_value(json!({
            "resourceType": "Patient", "id": "p",
            "communication": [
                {"language": {"coding": [{"code": "es"}]}, "preferred": true},
                {"language": {"text": "Quechua"}},
            ]
        }))
        .unwrap();
        set_language(&mut patient, "de");
        set_language(&mut patient, "es");
        set_language(&mut patient, "de");
        let all = patient.get("communication").unwrap().as_array().unwrap();
        assert_eq!(all.len(), 3);
        let preferred: Vec<bool> = all.iter().map(|one| one["preferred"] == true).collect();
        assert_eq!(preferred, [false, false, true]);
        assert_eq!(name_of("pt"), "Português");
        assert_eq!(name_of("pt-BR"), "pt-BR");
    }
}
