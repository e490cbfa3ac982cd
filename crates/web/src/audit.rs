//! The audit: who did what with whose record and what for; a sentence a line, the raw event one
//! click deeper, the proof two.

use std::collections::HashMap;

use axum::extract::Path;
use axum::http::header;
use axum::response::{IntoResponse, Response};
use fhir::ResourceType;
use jiff::tz::TimeZone;
use ledger::{DisclosedPart, Number};
use maud::{Markup, html};
use serde_json::Value;
use trust::{Action, AuditProof, PageAt, Permit, Versioned};

use crate::context::{Ctx, Fields, escape, query};
use crate::error::PageError;
use crate::layout::{self, Section, State, console};
use crate::sentence::Sentence;
use crate::time::{day_begins, iso};
use crate::worklist::{PatientLine, patient_lines};

/// Lines on a page.
const PAGE: usize = 50;
/// Events read in one go when a filter is checked on the opened event.
const BATCH: usize = 200;
/// Events looked through for one page; then the page says how far it came.
const SCAN_MAX: usize = 2_000;

/// Actions to filter by: FHIR interaction or DICOM code, and words.
const ACTIONS: [(&str, &str); 22] = [
    ("read", "read"),
    ("search-type", "searched"),
    ("history-instance", "read a history"),
    ("create", "created"),
    ("update", "changed"),
    ("delete", "deleted"),
    ("disclose", "sent to others"),
    ("AuthZ-Consent", "met a consent that denies"),
    ("transaction", "wrote several"),
    ("journey", "looked at journeys"),
    ("110122", "signed in"),
    ("110123", "signed out"),
    ("110137", "changed an account"),
    ("110127", "began emergency access"),
    ("110138", "ended emergency access"),
    ("emergency-review", "reviewed emergency access"),
    ("unexplained", "looked at unexplained accesses"),
    ("access-review", "reviewed an unexplained access"),
    ("policies", "took policies"),
    ("accounts", "looked at accounts"),
    ("publish", "published"),
    ("steer", "asked for an act on many journeys"),
];
const PURPOSES: [(&str, &str); 8] = [
    ("TREAT", "treatment"),
    ("CAREMGT", "care management"),
    ("HPAYMT", "payment"),
    ("HOPERAT", "operations"),
    ("ETREAT", "emergency"),
    ("PATRQT", "patient's request"),
    ("HRESCH", "research"),
    ("HSYSADMIN", "administration"),
];
const OUTCOMES: [(&str, &str); 2] = [("0", "done"), ("8", "refused")];

/// HL7's purposes, and this organisation's own.
fn purposes(ctx: &Ctx) -> Vec<(&'static str, &'static str)> {
    let set = ctx.app.web.trust.policy_set();
    let own = set
        .purposes()
        .own()
        .map(|own| (own.code(), crate::patient::words::named(own)));
    PURPOSES.into_iter().chain(own).collect()
}

/// Filters in the address: ids and codes only. Days are those of the zone that the lines are grouped
/// by.
fn parameters(fields: &Fields, zone: &TimeZone) -> Vec<(&'static str, String)> {
    let mut parameters = Vec::new();
    let id = |name: &str| {
        fields
            .get(name)
            .filter(|id| fhir::is_id(id))
            .map(str::to_owned)
    };
    if let Some(patient) = id("patient") {
        parameters.push(("patient", format!("Patient/{patient}")));
    }
    if let Some(who) = id("who") {
        parameters.push(("altid", who));
    }
    for (field, parameter, known) in [
        ("action", "subtype", &ACTIONS[..]),
        ("outcome", "outcome", &OUTCOMES[..]),
    ] {
        if let Some(code) = fields
            .get(field)
            .filter(|code| known.iter().any(|(value, _)| value == code))
        {
            parameters.push((parameter, code.to_owned()));
        }
    }
    let day = |name: &str| fields.get(name)?.parse::<jiff::civil::Date>().ok();
    let begins = |day| day_begins(day, zone);
    if let Some(from) = day("from").and_then(begins) {
        parameters.push(("date", format!("ge{from}")));
    }
    // Up to the end of the day, which is the beginning of the next.
    let after = day("to").and_then(|day| day.tomorrow().ok());
    if let Some(after) = after.and_then(begins) {
        parameters.push(("date", format!("lt{after}")));
    }
    parameters
}

struct Found {
    sentences: Vec<Sentence>,
    next: Option<Number>,
    scanned: usize,
    complete: bool,
}

/// Looks for one page of lines. The purpose is no search parameter of FHIR's, so it is checked here.
async fn find(ctx: &Ctx, permit: &Permit, fields: &Fields) -> Result<Found, PageError> {
    let parameters = parameters(fields, &ctx.times.zone);
    let borrowed: Vec<(&str, &str)> = parameters
        .iter()
        .map(|(name, value)| (*name, value.as_str()))
        .collect();
    let purpose = fields
        .get("purpose")
        .filter(|code| purposes(ctx).iter().any(|(value, _)| value == code));
    let query = query(
        ResourceType::AuditEvent,
        &borrowed,
        if purpose.is_some() { BATCH } else { PAGE },
    )?;
    let mut before = fields
        .get("before")
        .and_then(|number| number.parse().ok())
        .map(Number);
    let (mut sentences, mut scanned) = (Vec::new(), 0);
    loop {
        let at = before.map(|before| PageAt {
            before,
            first: Number(u64::MAX),
        });
        let page = ctx.vault().search_texts(permit, &query, at).await?;
        for row in &page.rows {
            scanned += 1;
            before = Some(row.at.number);
            let sentence = Sentence::of_text(&row.json());
            if purpose.is_none_or(|purpose| sentence.is_for(purpose)) {
                sentences.push(sentence);
                if sentences.len() == PAGE {
                    let more = page.next.is_some()
                        || page
                            .rows
                            .last()
                            .is_some_and(|last| Some(last.at.number) != before);
                    return Ok(Found {
                        sentences,
                        next: before.filter(|_| more),
                        scanned,
                        complete: true,
                    });
                }
            }
        }
        if page.next.is_none() {
            return Ok(Found {
                sentences,
                next: None,
                scanned,
                complete: true,
            });
        }
        before = page.next;
        if scanned >= SCAN_MAX {
            return Ok(Found {
                sentences,
                next: before,
                scanned,
                complete: false,
            });
        }
    }
}

fn select(name: &str, words: &str, options: &[(&str, &str)], chosen: Option<&str>) -> Markup {
    html! {
        label { (words) select name=(name) {
            option value="" { "any" }
            @for (value, word) in options { option value=(value) selected[chosen == Some(value)] { (word) } }
        } }
    }
}

/// A line for an auditor.
fn line(
    ctx: &Ctx,
    sentence: &Sentence,
    names: &HashMap<String, PatientLine>,
    fields: &Fields,
) -> Markup {
    let with = |name: &str, value: &str| {
        let rest = fields.to_query(&[name, "before"]);
        let joint = if rest.is_empty() { "" } else { "&" };
        format!("/console/audit?{rest}{joint}{name}={}", escape(value))
    };
    let (what, joint) = sentence.what();
    html! {
        li class="sentence" data-key=(sentence.id) {
            time class="quiet nowrap" datetime=(iso(sentence.at_ms)) title=(ctx.times.exact(sentence.at_ms)) { (ctx.times.hour(sentence.at_ms)) }
            span {
                @if sentence.who_id.is_empty() { (sentence.actor()) } @else { a href=(with("who", &sentence.who_id)) { (sentence.actor()) } }
                " " (what)
                @match sentence.patients.as_slice() {
                    [] => {},
                    [one] => { " " (joint) " " a href=(with("patient", one)) { (name(names, one)) } },
                    many => { " " (joint) " " a href={ "/console/audit/" (sentence.id) "#patients" } { (layout::thousands(many.len() as u64)) " patients" } },
                }
                @if !sentence.purpose_words().is_empty() { " " (sentence.purpose_words()) }
                @if sentence.missed { " – not there" }
                @if sentence.refused { " " span class="refused" { "– refused" } }
                @if !sentence.note.is_empty() && sentence.note != "refused" { span class="quiet" { " – " (sentence.note) } }
            }
            a data-act="open" class="nowrap" href={ "/console/audit/" (sentence.id) } { "Details" span class="visually-hidden" { " of " (ctx.times.exact(sentence.at_ms)) } }
        }
    }
}

fn name(names: &HashMap<String, PatientLine>, id: &str) -> String {
    names.get(id).map_or_else(
        || format!("patient {}", layout::short_id(id)),
        |line| line.name.clone(),
    )
}

/// `GET /console/audit`.
pub(crate) async fn page(ctx: Ctx, fields: Fields) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx
        .permit(Action::Audit, Some(ResourceType::AuditEvent), None)
        .await?;
    let found = find(&ctx, &permit, &fields).await?;
    let shown = found
        .sentences
        .iter()
        .filter(|sentence| sentence.patients.len() == 1)
        .map(|sentence| sentence.patients[0].clone());
    let names = patient_lines(
        &ctx,
        shown.chain(
            fields
                .get("patient")
                .filter(|id| fhir::is_id(id))
                .map(str::to_owned),
        ),
    )
    .await?;
    let chip = |field: &str, words: &Markup| {
        html! { @if fields.get(field).is_some() { span class="tag" { (words) " " a href={ "/console/audit?" (fields.to_query(&[field, "before"])) } { "remove" } } } }
    };
    let who = fields
        .get("who")
        .and_then(|who| {
            found
                .sentences
                .iter()
                .find(|sentence| sentence.who_id == who)
        })
        .map_or_else(|| "one account".to_owned(), Sentence::actor);
    let body = html! {
        (layout::head("Audit", &html! { "Every look at a record and every change is here, newest first, and each can be proved." }, &html! { a class="button" href="/console/checkpoint" { "Signed state" } }))
        form class="filters inline-fields" method="get" action="/console/audit" data-auto {
            @for field in ["who", "patient"] { @if let Some(value) = fields.get(field) { input type="hidden" name=(field) value=(value); } }
            (select("action", "Action", &ACTIONS, fields.get("action")))
            (select("purpose", "Purpose", &purposes(&ctx), fields.get("purpose")))
            (select("outcome", "Outcome", &OUTCOMES, fields.get("outcome")))
            label { "From" input type="date" name="from" value=[fields.get("from")]; }
            label { "To" input type="date" name="to" value=[fields.get("to")]; }
            button type="submit" data-auto-hide { "Filter" }
        }
        p class="cluster" {
            (chip("who", &html! { "By " (who) }))
            (chip("patient", &html! { "About " (fields.get("patient").map(|id| name(&names, id)).unwrap_or_default()) }))
            @if fields.get("who").is_none() && fields.get("patient").is_none() { span class="quiet" { "Choose a name in a line to see only theirs." } }
        }
        @if found.sentences.is_empty() {
            @if found.complete { (layout::empty("Nothing recorded", "No audit record fits these filters.")) }
        } @else {
            div data-rows {
                @for day in found.sentences.chunk_by(|left, right| ctx.times.day_key(left.at_ms) == ctx.times.day_key(right.at_ms)) {
                    h2 class="day-title" { (ctx.times.day_title(day[0].at_ms)) }
                    ol { @for sentence in day { (line(&ctx, sentence, &names, &fields)) } }
                }
            }
        }
        @if !found.complete { p class="note" { "Looked through " (layout::thousands(found.scanned as u64)) " records for this page. There may be more further back." } }
        @if let Some(next) = found.next {
            nav class="pager" aria-label="Pages" { a href={ "/console/audit?" (fields.to_query(&["before"])) "&before=" (next.0) } { "Older" } }
        }
    };
    Ok(console(&ctx, "Audit", Section::Audit, None, &body))
}

/// Reads one audit event under a permit.
pub(crate) async fn event(ctx: &Ctx, permit: &Permit, id: &str) -> Result<Versioned, PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    ctx.vault()
        .read(permit, ResourceType::AuditEvent, id)
        .await?
        .filter(|found| !found.deleted)
        .ok_or(PageError::NotFound)
}

/// Columns that a line of a raw record fills at most, where it can be broken.
const LINE: usize = 140;

/// The most of a raw record that a page shows, bytes: an answer of hundreds of rows names each of them.
const RAW_MAX: usize = 32 * 1024;

/// JSON with line breaks, but what fits into a line stays in one: a record of a hundred entities is
/// to be read, and to stay a small page.
fn pretty(value: &Value, indent: usize) -> String {
    let short = value.to_string();
    if short.len() + indent <= LINE {
        return short;
    }
    let inner = indent + 2;
    let (open, close, parts): (_, _, Vec<String>) = match value {
        Value::Object(members) => (
            '{',
            '}',
            members
                .iter()
                .map(|(name, member)| {
                    let name = Value::from(name.as_str()).to_string();
                    format!("{name}: {}", pretty(member, inner))
                })
                .collect(),
        ),
        Value::Array(members) => (
            '[',
            ']',
            members.iter().map(|member| pretty(member, inner)).collect(),
        ),
        _ => return short,
    };
    let pad = " ".repeat(inner);
    format!(
        "{open}\n{pad}{}\n{}{close}",
        parts.join(&format!(",\n{pad}")),
        " ".repeat(indent)
    )
}

/// The lines of a text that fit into so many bytes, and how many are left out.
fn first_lines(text: &str, bytes: usize) -> (&str, usize) {
    if text.len() <= bytes {
        return (text, 0);
    }
    let ends = text.match_indices('\n').map(|(at, _)| at);
    let end = ends.take_while(|at| *at <= bytes).last().unwrap_or(0);
    let left = &text[end..];
    let left = left.strip_prefix('\n').unwrap_or(left);
    (&text[..end], left.lines().count())
}

/// What the record says explains the access to a patient, where it says so.
fn why(sentence: &Sentence, patient: &str) -> Markup {
    let told = sentence.relations.iter().find(|(one, _)| one == patient);
    html! {
        @match told.map(|(_, told)| told.as_str()) {
            None => {},
            Some(told @ ("none" | "unknown")) => {
                " · " a href={ "/console/unexplained/" (sentence.id) "/" (patient) } {
                    @if told == "none" { "nothing explains it" } @else { "not known what explains it" }
                }
            },
            Some(told) => { " · " span class="quiet" { "explained by: " (told) } },
        }
    }
}

/// `GET /console/audit/{id}`: the sentence, its facts and the raw event.
pub(crate) async fn details(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx
        .permit(Action::Audit, Some(ResourceType::AuditEvent), None)
        .await?;
    let found = event(&ctx, &permit, &id).await?;
    let sentence = Sentence::of(&found.resource);
    let names = patient_lines(&ctx, sentence.patients.iter().take(PAGE).cloned()).await?;
    let raw = pretty(found.resource.as_value(), 0);
    let (raw, left) = first_lines(&raw, RAW_MAX);
    let body = html! {
        p class="crumbs" { a href="/console/audit" { "Audit" } }
        div class="head" {
            div { h1 { (sentence.actor()) " " (sentence.what().0) } p class="quiet" { (ctx.times.both(sentence.at_ms)) } }
            a class="button" href={ "/console/audit/" (id) "/proof" } { "Proof" }
        }
        div class="stack-wide" {
            dl class="facts" {
                dt { "Outcome" }
                dd {
                    @if sentence.refused { (layout::state(State::Failed, "Refused")) } @else if sentence.missed { (layout::state(State::Waiting, "Not there")) } @else { (layout::state(State::Done, "Done")) }
                    @if !sentence.note.is_empty() { " " (sentence.note) }
                }
                @if !sentence.purpose.is_empty() { dt { "Purpose" } dd { (sentence.purpose_words()) " " span class="mono quiet" { (sentence.purpose) } } }
                @if !sentence.patients.is_empty() {
                    dt id="patients" { "Patients" }
                    dd { ul { @for patient in sentence.patients.iter().take(PAGE) { li { a href={ "/console/audit?patient=" (patient) } { (name(&names, patient)) } (why(&sentence, patient)) } } }
                        @if sentence.patients.len() > PAGE { span class="quiet" { "and " (sentence.patients.len() - PAGE) " more, in the record itself" } } }
                }
                @if !sentence.queries.is_empty() { dt { "Asked" } dd { ul { @for query in &sentence.queries { li class="mono" { (query) } } } } }
            }
            section class="stack" aria-labelledby="raw" { h2 id="raw" { "The record as it is kept" } pre tabindex="0" { code { (layout::escaped(raw)) } }
                @if left > 0 { p class="quiet" { (layout::thousands(left as u64)) " more lines are not shown. The whole record is in " a href={ "/console/audit/" (id) "/proof.json" } download { "the proof's file" } "." } }
            }
        }
    };
    Ok(console(&ctx, "Audit record", Section::Audit, None, &body))
}

/// An audit event and its proof; its leaf is covered by a checkpoint within a second.
pub(crate) async fn prove(
    ctx: &Ctx,
    permit: &Permit,
    id: &str,
) -> Result<(Versioned, AuditProof), PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let found = ctx.vault().prove(permit, id).await?;
    found.ok_or(PageError::NotFound)
}

/// A proof as a file.
pub(crate) fn proof_file(id: &str, proof: &AuditProof) -> Result<Response, PageError> {
    let body =
        serde_json::to_vec_pretty(proof).map_err(|error| PageError::Internal(error.to_string()))?;
    Ok((
        [
            (header::CONTENT_TYPE, "application/json".to_owned()),
            (
                header::CONTENT_DISPOSITION,
                format!("attachment; filename=\"audit-{id}.proof.json\""),
            ),
        ],
        body,
    )
        .into_response())
}

/// A proof in words and figures.
pub(crate) fn proof_words(proof: &AuditProof, download: &str) -> Markup {
    let withheld = (proof.parts.iter())
        .filter(|part| matches!(part, DisclosedPart::Withheld { .. }))
        .count();
    let (bare, proof) = (proof.parts.is_empty(), &proof.proof);
    html! {
        div class="proof stack-wide" {
            p { "This record is leaf " strong { (layout::thousands(proof.leaf_index)) } " of the " (layout::thousands(proof.tree_size)) " leaves in tree " code { (format!("{:02x}", proof.shard)) } ". Nobody can take it out or change it without the tree's hash changing, and that hash is signed." }
            p { a class="button primary" href=(download) download { "Download the proof" } }
            section class="stack" aria-labelledby="how" {
                h2 id="how" { "How to check it without us" }
                @if bare { p { "This record was written before the tree also held its words. The proof shows that a record of this number and time is in the tree, and not what it says." } }
                @if withheld > 0 { p { (withheld) " " @if withheld == 1 { "entry of this record concerns somebody else and is" } @else { "entries of this record concern somebody else or the whole request and are" } " left out. In the file the hash of each stands for it." } }
                ol class="stack" {
                    @if !bare { li { "The words. For each of the file's " code { "parts" } ", take the hash that is given, or hash the salt and the text after it with SHA-256. Hash all these hashes, one after the other. It must give the last 32 bytes of the leaf record. The first part is the record itself, with " code { "null" } " where the others belong." } }
                    li { "The leaf. Hash the leaf: SHA-256 over one zero byte and the bytes of the leaf record. It must give the leaf hash." }
                    li { "The tree. Go up the path, as RFC 6962 section 2.1.1 says: at each level hash one byte of value one, the left hash and the right hash. It must give the tree's hash." }
                    li { "The checkpoint. The tree's hash must stand in the signed checkpoint, in the line that begins with " code { (format!("{:02x} {}", proof.shard, proof.tree_size)) } "." }
                    li { "The signature. Check the checkpoint's signature with the verifier key. It is a C2SP signed note, so any tool for transparency logs can. Get the key from the organisation by another way than this page." }
                }
            }
            dl class="facts" {
                dt { "Leaf hash" } dd { code { (proof.leaf_hash) } }
                dt { "Tree's hash" } dd { code { (proof.root_hash) } }
                dt { "Path" } dd { @if proof.path.is_empty() { span class="quiet" { "none: it is the only leaf" } } ol { @for hash in &proof.path { li { code { (hash) } } } } }
                dt { "Leaf record" } dd { code { (proof.leaf_record) } }
                dt { "Verifier key" } dd { code { (proof.verifier_key) } }
            }
            section class="stack" aria-labelledby="checkpoint" { h2 id="checkpoint" { "Signed checkpoint" } pre tabindex="0" { code { (proof.checkpoint) } } }
        }
    }
}

/// `GET /console/audit/{id}/proof`.
pub(crate) async fn proof(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx
        .permit(Action::Audit, Some(ResourceType::AuditEvent), None)
        .await?;
    let (_, proof) = prove(&ctx, &permit, &id).await?;
    let body = html! {
        p class="crumbs" { a href="/console/audit" { "Audit" } " / " a href={ "/console/audit/" (id) } { "Record" } }
        h1 { "Proof" }
        (proof_words(&proof, &format!("/console/audit/{id}/proof.json")))
    };
    Ok(console(&ctx, "Proof", Section::Audit, None, &body))
}

/// `GET /console/audit/{id}/proof.json`.
pub(crate) async fn proof_json(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    ctx.staff()?;
    let permit = ctx
        .permit(Action::Audit, Some(ResourceType::AuditEvent), None)
        .await?;
    proof_file(&id, &prove(&ctx, &permit, &id).await?.1)
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn raw_records_break_only_what_does_not_fit_into_a_line() {
        let entity = json!({ "what": { "reference": "Observation/0ce7fb45-15b0-81f0-a7e7-1c6f19a52214" }, "type": { "code": "2" } });
        let event =
            json!({ "resourceType": "AuditEvent", "entity": [entity, entity], "quote\"d": [] });
        let text = pretty(&event, 0);
        assert_eq!(text.lines().count(), 8, "{text}");
        assert_eq!(layout::escaped("\"</pre>&\"").0, "\"&lt;/pre&gt;&amp;\"");
        assert_eq!(serde_json::from_str::<Value>(&text).unwrap(), event);
    }

    #[test]
    fn of_long_records_whole_lines_are_shown() {
        assert_eq!(first_lines("one\ntwo\nthree", 20), ("one\ntwo\nthree", 0));
        assert_eq!(first_lines("one\ntwo\nthree", 7), ("one\ntwo", 1));
        assert_eq!(first_lines("one\ntwo\nthree", 6), ("one", 2));
        assert_eq!(first_lines("one\ntwo\nthree", 2), ("", 3));
        assert_eq!(first_lines("ä\nö", 3), ("ä", 1));
    }

    #[test]
    fn only_ids_codes_and_days_become_parameters() {
        let fields = |pairs: &[(&str, &str)]| {
            Fields(
                pairs
                    .iter()
                    .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                    .collect(),
            )
        };
        let all = fields(&[
            ("patient", "p-1"),
            ("who", "a1"),
            ("action", "read"),
            ("from", "2026-01-01"),
            ("to", "2026-01-31"),
            ("outcome", "8"),
        ]);
        // Two hours ahead of UTC, a day begins at ten in the evening of the day before.
        let east = TimeZone::fixed(jiff::tz::offset(2));
        let parsed = parameters(&all, &east);
        let words: Vec<String> = parsed
            .iter()
            .map(|(name, value)| format!("{name}={value}"))
            .collect();
        assert_eq!(
            words,
            [
                "patient=Patient/p-1",
                "altid=a1",
                "subtype=read",
                "outcome=8",
                "date=ge2025-12-31T22:00:00.000Z",
                "date=lt2026-01-31T22:00:00.000Z"
            ]
        );
        let odd = fields(&[
            ("patient", "a b"),
            ("action", "made-up"),
            ("from", "yesterday"),
            ("to", "9999-12-31"),
            ("outcome", "7"),
        ]);
        assert!(parameters(&odd, &TimeZone::UTC).is_empty());
    }
}
