//! A form to fill in: the `Questionnaire` of a task, checked and kept as a `QuestionnaireResponse`
//! in the same unit of work that completes the task.

use axum::extract::Path;
use axum::response::{IntoResponse, Redirect, Response};
use fhir::{Reference, Resource, ResourceType};
use ledger::{Expected, Owner};
use maud::{Markup, html};
use serde_json::{Map, Number, Value, json};
use trust::{Action, Answered, Change};

use crate::context::{Ctx, Fields, Posted, query};
use crate::error::PageError;
use crate::layout::{self, State, csrf, portal};
use crate::patient::facts::is_form;
use crate::tasks::OPEN;
use crate::time::{fhir_time, iso};

use super::change;
use super::languages::{Said, Tongue};

/// Longest text answer, characters.
const TEXT_MAX: usize = 4_000;
/// Whole-number scales up to this many steps are shown as a row of choices.
const SCALE_MAX: i64 = 11;

/// A question, flattened out of its groups.
struct Question<'a> {
    item: &'a Value,
    link_id: &'a str,
    text: &'a str,
    kind: &'a str,
    required: bool,
}

impl<'a> Question<'a> {
    fn of(item: &'a Value) -> Option<Self> {
        Some(Self {
            item,
            link_id: item["linkId"].as_str()?,
            text: item["text"].as_str().unwrap_or_default(),
            kind: item["type"].as_str()?,
            required: item["required"].as_bool().unwrap_or(false),
        })
    }
    fn field(&self) -> String {
        format!("q-{}", self.link_id)
    }
    /// `minValue` or `maxValue`.
    fn bound(&self, name: &str) -> Option<f64> {
        let url = format!("http://hl7.org/fhir/StructureDefinition/{name}");
        let extension = self.item["extension"]
            .as_array()?
            .iter()
            .find(|extension| extension["url"] == url.as_str())?;
        extension["valueInteger"]
            .as_f64()
            .or_else(|| extension["valueDecimal"].as_f64())
    }
    fn said(&self, tongue: &'a Tongue) -> Said<'a> {
        tongue.said(self.item, "text").unwrap_or(Said {
            words: self.text,
            lang: None,
        })
    }
    fn help(&self, tongue: &'a Tongue) -> Option<Said<'a>> {
        let items = self.item["item"].as_array()?;
        let help = items.iter().find(|item| item["type"] == "display")?;
        tongue.said(help, "text")
    }
    /// Options: value of the field, words, answer. What an option is in other languages is no part of the answer.
    fn options(&self, tongue: &'a Tongue) -> Vec<(String, Said<'a>, Value)> {
        let options = self.item["answerOption"]
            .as_array()
            .map(Vec::as_slice)
            .unwrap_or_default();
        options
            .iter()
            .filter_map(|option| {
                let (member, value) = option
                    .as_object()?
                    .iter()
                    .find(|(member, _)| member.starts_with("value"))?;
                let plain = |words: &'a str| Said { words, lang: None };
                let (code, words) = match value {
                    Value::Object(_) => {
                        let code = value["code"].as_str()?;
                        let words = tongue.said(value, "display");
                        (code.to_owned(), words.unwrap_or(plain(code)))
                    }
                    Value::String(text) => {
                        let words = tongue.said(option, member);
                        (text.clone(), words.unwrap_or(plain(text)))
                    }
                    other => (other.to_string(), plain("")),
                };
                let mut value = value.clone();
                if let Some(coding) = value.as_object_mut() {
                    coding.remove("_display");
                }
                let mut answer = Map::new();
                answer.insert(member.clone(), value);
                Some((code, words, Value::Object(answer)))
            })
            .collect()
    }
    /// Reads the answer from what was typed; `Ok(None)` when there is none.
    fn answer(&self, fields: &Fields) -> Result<Option<Value>, &'static str> {
        let field = self.field();
        let Some(typed) = fields.get(&field) else {
            return if self.required {
                Err("Please answer this question.")
            } else {
                Ok(None)
            };
        };
        let within = |number: f64| {
            self.bound("minValue").is_none_or(|least| number >= least)
                && self.bound("maxValue").is_none_or(|most| number <= most)
        };
        let answer = match self.kind {
            "boolean" => match typed {
                "yes" => json!({ "valueBoolean": true }),
                "no" => json!({ "valueBoolean": false }),
                _ => return Err("Please choose yes or no."),
            },
            "integer" => {
                let number: i64 = typed.parse().map_err(|_| "Please give a whole number.")?;
                #[allow(clippy::cast_precision_loss, reason = "bounds are small numbers")]
                if !within(number as f64) {
                    return Err("This number is too small or too large.");
                }
                json!({ "valueInteger": number })
            }
            "decimal" => {
                let typed = typed.replace(',', ".");
                let number: Number = typed
                    .parse::<Number>()
                    .ok()
                    .filter(|number| number.as_f64().is_some_and(f64::is_finite))
                    .ok_or("Please give a number.")?;
                if !number.as_f64().is_some_and(within) {
                    return Err("This number is too small or too large.");
                }
                json!({ "valueDecimal": number })
            }
            "date" => {
                typed
                    .parse::<jiff::civil::Date>()
                    .map_err(|_| "Please give a date.")?;
                json!({ "valueDate": typed })
            }
            "choice" | "open-choice" => self
                .options(&Tongue::default())
                .into_iter()
                .find(|(code, ..)| code == typed)
                .map(|(_, _, answer)| answer)
                .ok_or("Please choose one of the answers.")?,
            _ if typed.chars().count() > TEXT_MAX => return Err("This text is too long."),
            _ => json!({ "valueString": typed }),
        };
        Ok(Some(answer))
    }
}

/// Something wrong with an answer.
struct Wrong {
    field: String,
    /// The question's item.
    question: Value,
    words: &'static str,
}

/// Reads all answers into the items of a response, groups kept.
fn read(items: &Value, fields: &Fields, wrong: &mut Vec<Wrong>) -> Vec<Value> {
    let mut out = Vec::new();
    for item in items.as_array().into_iter().flatten() {
        let Some(question) = Question::of(item) else {
            continue;
        };
        match question.kind {
            "display" => {}
            "group" => {
                let inner = read(&item["item"], fields, wrong);
                if !inner.is_empty() {
                    out.push(json!({ "linkId": question.link_id, "text": question.text, "item": inner }));
                }
            }
            _ => match question.answer(fields) {
                Ok(Some(answer)) => out.push(json!({ "linkId": question.link_id, "text": question.text, "answer": [answer] })),
                Ok(None) => {}
                Err(words) => wrong.push(Wrong { field: question.field(), question: item.clone(), words }),
            },
        }
    }
    out
}

fn draw(items: &Value, tongue: &Tongue, fields: &Fields, wrong: &[Wrong]) -> Markup {
    html! {
        @for item in items.as_array().into_iter().flatten() {
            @if let Some(question) = Question::of(item) {
                @match question.kind {
                    "display" => { p { (question.said(tongue)) } },
                    "group" => { fieldset class="stack-wide" { legend { (question.said(tongue)) } (draw(&item["item"], tongue, fields, wrong)) } },
                    _ => (draw_question(&question, tongue, fields, wrong)),
                }
            }
        }
    }
}

#[allow(clippy::cast_possible_truncation, reason = "bounds are small numbers")]
fn draw_question(
    question: &Question<'_>,
    tongue: &Tongue,
    fields: &Fields,
    wrong: &[Wrong],
) -> Markup {
    let field = question.field();
    let typed = fields.get(&field).unwrap_or_default();
    let trouble = wrong.iter().find(|wrong| wrong.field == field);
    let hint_id = format!("{field}-hint");
    let help = question.help(tongue);
    let describes = (help.is_some() || trouble.is_some()).then_some(hint_id.as_str());
    let optional = html! { @if !question.required { span class="quiet" { " " (tongue.page("(may stay empty)")) } } };
    let hint = html! {
        @if describes.is_some() {
            span class="hint" id=(hint_id) {
                @if let Some(help) = help { (help) }
                @if let Some(trouble) = trouble { span class="alert" { " " (tongue.page(trouble.words)) } }
            }
        }
    };
    let scale = match (
        question.kind,
        question.bound("minValue"),
        question.bound("maxValue"),
    ) {
        ("integer", Some(least), Some(most))
            if most >= least && (most - least) as i64 <= SCALE_MAX =>
        {
            Some((least as i64)..=(most as i64))
        }
        _ => None,
    };
    let radios = |options: Vec<(String, Markup)>, class: &'static str| {
        html! {
            fieldset id=(field) tabindex="-1" aria-describedby=[describes] {
                legend { (question.said(tongue)) (optional) }
                (hint)
                div class=(class) {
                    @for (value, words) in &options {
                        label class=[(class != "scale").then_some("choice")] { input type="radio" name=(field) value=(value) checked[typed == value] required[question.required]; span { (words) } }
                    }
                }
            }
        }
    };
    let pair = |value: &str, words: &str| (value.to_owned(), html! { (tongue.page(words)) });
    match question.kind {
        "boolean" => radios(vec![pair("yes", "Yes"), pair("no", "No")], "choices"),
        "choice" | "open-choice" => radios(
            question
                .options(tongue)
                .into_iter()
                .map(|(code, words, _)| {
                    let words = match words.words {
                        "" => html! { (code) },
                        _ => html! { (words) },
                    };
                    (code, words)
                })
                .collect(),
            "choices",
        ),
        "integer" if let Some(scale) = scale => radios(
            scale
                .map(|step| (step.to_string(), html! { (step) }))
                .collect(),
            "scale",
        ),
        kind => {
            let (input, mode, step) = match kind {
                "integer" => ("text", Some("numeric"), None),
                "decimal" => ("text", Some("decimal"), None),
                "date" => ("date", None, None::<&str>),
                _ => ("text", None, None),
            };
            html! {
                div {
                    label class="question" for=(field) { (question.said(tongue)) (optional) }
                    (hint)
                    @if kind == "text" { textarea id=(field) name=(field) maxlength=(TEXT_MAX) required[question.required] aria-describedby=[describes] { (typed) } }
                    @else { input id=(field) type=(input) name=(field) value=(typed) inputmode=[mode] step=[step] maxlength=(TEXT_MAX) required[question.required] aria-describedby=[describes]; }
                }
            }
        }
    }
}

/// The task's questionnaire: a canonical (`url|version`) or a literal reference.
fn canonical(task: &Resource) -> Option<&str> {
    let inputs = task.get("input")?.as_array()?;
    inputs
        .iter()
        .find(|input| fhir::human::codeable(&input["type"]) == "questionnaire")
        .and_then(|input| {
            input["valueCanonical"].as_str().or_else(|| {
                input
                    .pointer("/valueReference/reference")
                    .and_then(Value::as_str)
            })
        })
}

async fn questionnaire(ctx: &Ctx, patient: &str, canonical: &str) -> Result<Resource, PageError> {
    let missing =
        || PageError::Internal("a task names a questionnaire that is not there".to_owned());
    if let Some(reference) = Reference::parse(canonical)
        .filter(|reference| reference.kind == ResourceType::Questionnaire)
    {
        let permit = ctx
            .permit(
                Action::Read,
                Some(ResourceType::Questionnaire),
                Some(patient),
            )
            .await?;
        if let Some(found) = ctx
            .vault()
            .read(&permit, ResourceType::Questionnaire, &reference.id)
            .await?
            .filter(|found| !found.deleted)
        {
            return Ok(found.resource);
        }
    }
    let (url, version) = canonical
        .split_once('|')
        .map_or((canonical, None), |(url, version)| (url, Some(version)));
    let mut parameters = vec![("url", url)];
    if let Some(version) = version {
        parameters.push(("version", version));
    }
    let permit = ctx
        .permit(
            Action::Search,
            Some(ResourceType::Questionnaire),
            Some(patient),
        )
        .await?;
    let page = ctx
        .vault()
        .search(
            &permit,
            &query(ResourceType::Questionnaire, &parameters, 1)?,
            None,
        )
        .await?;
    page.rows
        .into_iter()
        .next()
        .map(|row| row.resource)
        .ok_or_else(missing)
}

async fn task(ctx: &Ctx, patient: &str, id: &str) -> Result<Resource, PageError> {
    if !fhir::is_id(id) {
        return Err(PageError::NotFound);
    }
    let permit = ctx
        .permit(Action::Read, Some(ResourceType::Task), Some(patient))
        .await?;
    ctx.vault()
        .read(&permit, ResourceType::Task, id)
        .await?
        .filter(|found| !found.deleted && is_form(&found.resource))
        .map(|found| found.resource)
        .ok_or(PageError::NotFound)
}

fn is_open(task: &Resource) -> bool {
    task.text_at(&["status"])
        .is_some_and(|status| OPEN.split(',').any(|open| open == status))
}

/// Until when the form can be answered; days are dates in languages of which this program knows no names of days.
fn answer_by(ctx: &Ctx, tongue: &Tongue, due_ms: i64) -> Markup {
    let words = tongue.page("Please answer by");
    match words.lang {
        None => html! { (words) " " (ctx.times.plain(due_ms)) ", " (ctx.times.ago(due_ms)) "." },
        Some(_) => html! { (words) " " (ctx.times.day_key(due_ms)) "." },
    }
}

fn draw_page(
    ctx: &Ctx,
    id: &str,
    task: &Resource,
    form: &Resource,
    tongue: &Tongue,
    (fields, wrong): (&Fields, &[Wrong]),
) -> Response {
    let title = tongue
        .said(form.as_value(), "title")
        .or_else(|| tongue.said(task.as_value(), "description"))
        .unwrap_or(tongue.page("Questions"));
    let due = task
        .text_at(&["restriction", "period", "end"])
        .and_then(|text| fhir_time(&ctx.times, text));
    let none = Value::Null;
    let body = html! {
        div class="stack-wide" {
            div {
                h1 { (title) }
                @if let Some((due, ..)) = due { p class="quiet" { (answer_by(ctx, tongue, due)) } }
            }
            @if let Some(words) = tongue.said(form.as_value(), "description") { p class="words" { (words) } }
            @if !wrong.is_empty() {
                div class="problem" role="alert" tabindex="-1" autofocus {
                    strong { (tongue.page("Nothing was sent yet. Please look at:")) }
                    ul { @for wrong in wrong { li { a href={ "#" (wrong.field) } { @if let Some(question) = tongue.said(&wrong.question, "text") { (question) } } ": " (tongue.page(wrong.words)) } } }
                }
            }
            form class="stack-wide" method="post" action={ "/portal/forms/" (id) } novalidate[!wrong.is_empty()] {
                (csrf(ctx))
                (draw(form.get("item").unwrap_or(&none), tongue, fields, wrong))
                button class="primary" type="submit" { (tongue.page("Send my answers")) }
            }
            p class="quiet small" { (tongue.page("Your care team sees your answers. If you feel very unwell, do not wait for them: call the emergency number.")) }
        }
    };
    portal(ctx, "Questions", None, None, &body)
}

/// `GET /portal/forms/{task}`.
pub(crate) async fn page(ctx: Ctx, Path(id): Path<String>) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?;
    let task = task(&ctx, patient, &id).await?;
    if !is_open(&task) {
        let (state, words) = if task.text_at(&["status"]) == Some("completed") {
            (State::Done, "You have answered these questions. Thank you.")
        } else {
            (
                State::Waiting,
                "These questions are closed. You do not need to answer them any more.",
            )
        };
        let tongue = Tongue::of_form(&ctx, patient, &task).await?;
        let title = tongue.said(task.as_value(), "description");
        let body = html! { div class="stack-wide" { h1 { (title.unwrap_or(tongue.page("Questions"))) } p { (layout::state(state, words)) } p { a class="button" href="/portal" { "What is next for me" } } } };
        return Ok(portal(&ctx, "Questions", None, None, &body));
    }
    let form = questionnaire(&ctx, patient, canonical(&task).ok_or(PageError::NotFound)?).await?;
    let tongue = Tongue::of_form(&ctx, patient, &form).await?;
    let nothing = Fields::default();
    Ok(draw_page(&ctx, &id, &task, &form, &tongue, (&nothing, &[])))
}

/// `POST /portal/forms/{task}`.
pub(crate) async fn submit(
    Path(id): Path<String>,
    Posted { ctx, fields }: Posted,
) -> Result<Response, PageError> {
    let patient = ctx.own_patient()?.to_owned();
    let asked = task(&ctx, &patient, &id).await?;
    let name = canonical(&asked).ok_or(PageError::NotFound)?.to_owned();
    let form = questionnaire(&ctx, &patient, &name).await?;
    let mut wrong = Vec::new();
    let items = read(
        form.get("item").unwrap_or(&Value::Null),
        &fields,
        &mut wrong,
    );
    if !wrong.is_empty() {
        let tongue = Tongue::of_form(&ctx, &patient, &form).await?;
        return Ok(draw_page(
            &ctx,
            &id,
            &asked,
            &form,
            &tongue,
            (&fields, &wrong),
        ));
    }
    let response_id = ctx
        .app
        .ledger()
        .mint_id(ctx.app.web.tenant, &Owner::Patient(patient.clone()));
    change(
        &ctx,
        ResourceType::Task,
        &id,
        "form answered in the portal",
        |task| {
            if !is_open(task) {
                return Err(PageError::Conflict);
            }
            let (now, by) = (iso(ctx.times.care_ms), ctx.own_reference()?);
            let answered = Answered {
                id: &response_id,
                task: &id,
                questionnaire: &name,
                patient: &patient,
                by: &by,
                items: items.clone(),
                now: &now,
            };
            answered.close(task);
            Ok(vec![Change::Put {
                resource: answered.response(),
                expected: Expected::Absent,
            }])
        },
    )
    .await?;
    Ok(Redirect::to("/portal?said=answered").into_response())
}

#[cfg(test)]
mod tests {
    use super::*;

    fn form() -> Value {
        json!([
            { "linkId": "breathless", "text": "Out of breath?", "type": "boolean", "required": true },
            { "linkId": "group", "text": "More", "type": "group", "item": [
                { "linkId": "score", "text": "How much?", "type": "integer", "required": true, "extension": [
                    { "url": "http://hl7.org/fhir/StructureDefinition/minValue", "valueInteger": 0 },
                    { "url": "http://hl7.org/fhir/StructureDefinition/maxValue", "valueInteger": 10 } ] },
                { "linkId": "weight", "text": "Weight", "type": "decimal" },
                { "linkId": "where", "text": "Where?", "type": "choice", "answerOption": [{ "valueCoding": { "code": "leg", "display": "Leg" } }] },
            ] },
            { "linkId": "note", "text": "Anything else? <b>", "type": "text" },
        ])
    }

    fn fields(pairs: &[(&str, &str)]) -> Fields {
        Fields(
            pairs
                .iter()
                .map(|(name, value)| ((*name).to_owned(), (*value).to_owned()))
                .collect(),
        )
    }

    #[test]
    fn answers_are_read_by_type() {
        let mut wrong = Vec::new();
        let items = read(
            &form(),
            &fields(&[
                ("q-breathless", "no"),
                ("q-score", "7"),
                ("q-weight", "82,5"),
                ("q-where", "leg"),
            ]),
            &mut wrong,
        );
        assert!(wrong.is_empty());
        assert_eq!(items[0]["answer"][0], json!({ "valueBoolean": false }));
        assert_eq!(
            items[1]["item"][0]["answer"][0],
            json!({ "valueInteger": 7 })
        );
        assert_eq!(
            items[1]["item"][1]["answer"][0].to_string(),
            r#"{"valueDecimal":82.5}"#
        );
        assert_eq!(
            items[1]["item"][2]["answer"][0],
            json!({ "valueCoding": { "code": "leg", "display": "Leg" } })
        );
        assert_eq!(items.len(), 2, "an empty answer leaves no item");
    }

    #[test]
    fn wrong_answers_are_named() {
        for (typed, expected) in [
            (
                &[("q-score", "3")][..],
                &["Please answer this question."][..],
            ),
            (
                &[("q-breathless", "maybe"), ("q-score", "11")],
                &[
                    "Please choose yes or no.",
                    "This number is too small or too large.",
                ],
            ),
            (
                &[
                    ("q-breathless", "yes"),
                    ("q-score", "x"),
                    ("q-weight", "heavy"),
                    ("q-where", "arm"),
                ],
                &[
                    "Please give a whole number.",
                    "Please give a number.",
                    "Please choose one of the answers.",
                ],
            ),
        ] {
            let mut wrong = Vec::new();
            read(&form(), &fields(typed), &mut wrong);
            assert_eq!(
                wrong.iter().map(|wrong| wrong.words).collect::<Vec<_>>(),
                expected
            );
        }
    }

    #[test]
    fn the_form_keeps_what_was_typed_and_escapes() {
        let html = draw(
            &form(),
            &Tongue::default(),
            &fields(&[("q-note", "<script>")]),
            &[Wrong {
                field: "q-score".into(),
                question: Value::Null,
                words: "Please answer.",
            }],
        )
        .into_string();
        assert!(
            html.contains("&lt;script&gt;") && !html.contains("<script>") && !html.contains("<b>")
        );
        assert!(
            html.contains("Please answer.") && html.matches("type=\"radio\"").count() == 2 + 11 + 1
        );
    }
}
