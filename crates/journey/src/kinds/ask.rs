//! A form for the patient.

mod reply;
mod said;
mod score;

pub(crate) use reply::ByReply;

use super::{Carried, Plan, StepKind, Waiting, same_of, way};
use crate::check::Check;
use crate::decode::build::{Parts, flag, length, line, message, number, template};
use crate::definition::{Definition, Message, Step, Target, Way};
use crate::engine::{CALLED_OFF, Effect, Engine, EngineError, Fact, Ids};
use crate::languages::Asked;
use crate::resources::{Maker, resource};
use crate::spec::{
    BECAUSE, CHANNELS, Clearance, EMAIL_MEMBER, Kind, REPLY, Record, SMS_MEMBER, Shape,
    TRANSLATIONS, TRANSLATIONS_OF_A_FORM, URGENCY, VOICE_MEMBER, WHILE_ADMITTED, may, must,
};
use crate::state::{Late, Stand, State, Token, What, Which};
use crate::template::Template;
use crate::time::say_duration;
use crate::yaml::{Node, Place};
use fhir::path::Given;
use fhir::{Resource, ResourceType};
use score::{SCORE, Score, WEIGHTS};
use serde_json::{Map, Value, json};
use std::sync::Arc;
use trust::consent::Topic;
use trust::conventions::TASK_SYSTEM;

static QUESTION: Record = Record {
    name: "question",
    doc: "A question of a form.",
    one_of: &[],
    fields: &[
        must(
            "id",
            Shape::Line,
            "Its `linkId`; answers are named `step.id` in conditions.",
        ),
        must("text", Shape::Line, "The question, in plain words."),
        must(
            "type",
            Shape::Choice(&[
                ("yes-no", "Yes or no (`boolean`)."),
                ("whole-number", "A whole number (`integer`)."),
                ("number", "A number (`decimal`)."),
                ("text", "Free text (`text`)."),
                ("choice", "One of `options` (`choice`)."),
                ("date", "A date (`date`)."),
            ]),
            "Type of the answer.",
        ),
        may(
            "help",
            Shape::Line,
            "A sentence of help under the question.",
        ),
        may(
            "required",
            Shape::Flag,
            "Whether an answer is needed; `true` if not given.",
        ),
        may(
            "least",
            Shape::Integer(-1_000_000, 1_000_000),
            "Smallest number allowed.",
        ),
        may(
            "most",
            Shape::Integer(-1_000_000, 1_000_000),
            "Greatest number allowed.",
        ),
        may(
            "options",
            Shape::Map("code", &Shape::Line),
            "Codes and their words, for `choice`.",
        ),
        may(
            "weights",
            Shape::Map("code", &WEIGHTS),
            "What each option counts in a score, or `yes` and `no`; published as FHIR's `ordinalValue`.",
        ),
    ],
};

static ASK: Record = Record {
    name: "ask",
    doc: "A form for the patient, answered in the portal, or by replying to a text message. It becomes a FHIR `Questionnaire` when the journey is published and a `Task` when a patient comes here.",
    one_of: &[],
    fields: &[
        must("title", Shape::Line, "Heading of the form."),
        must(
            "words",
            Shape::Words(Clearance::Closed),
            "What is said above the questions and in the invitation, behind login.",
        ),
        must(
            "questions",
            Shape::List(&Shape::Record(&QUESTION)),
            "The questions.",
        ),
        may(
            "scores",
            Shape::Map("score", &Shape::Record(&SCORE)),
            "Numbers that are worked out from the answers, by name.",
        ),
        must(
            "give_up_after",
            Shape::Duration,
            "How long to wait for the answer before `no_answer` is gone.",
        ),
        may(
            "remind_after",
            Shape::Duration,
            "When to remind, counted from the invitation; no reminder if not given.",
        ),
        may(
            "reminder",
            Shape::Words(Clearance::Closed),
            "Words of the reminder; the words of the invitation if not given.",
        ),
        may(
            "channels",
            CHANNELS,
            "Channels of invitation and reminder, in order of fall-back; `[email, portal]` if not given.",
        ),
        EMAIL_MEMBER,
        SMS_MEMBER,
        VOICE_MEMBER,
        may(
            "reply",
            Shape::Record(&REPLY),
            "The form has one question, and the patient may answer it by replying to the text message; the form in the portal stays as the other way. It goes to a telephone that is one patient's alone, and not while another question is open there: by the next channel then.",
        ),
        may(
            "urgency",
            URGENCY,
            "How much it can't wait where messages are limited; `routine` if not given.",
        ),
        may("because", Shape::Line, BECAUSE),
        WHILE_ADMITTED,
        may(
            TRANSLATIONS,
            Shape::Languages(&TRANSLATIONS_OF_A_FORM),
            "Invitation and reminder in other languages; whoever prefers none of them gets them in the journey's own.",
        ),
    ],
};

pub(super) static KIND: Kind = Kind {
    name: "ask",
    doc: ASK.doc,
    body: Shape::Record(&ASK),
    ways: &[
        must(
            "answered",
            Shape::Target,
            "Where to go when the form was answered.",
        ),
        may(
            "no_answer",
            Shape::Target,
            "Where to go when `give_up_after` has passed without an answer.",
        ),
        may(
            "late_answer",
            Shape::Target,
            "Where a side branch starts when the answer comes after `no_answer` was gone; without it the form is closed then.",
        ),
        may(
            "unclear",
            Shape::Target,
            "Where a side branch starts when the patient replies with what is no answer, each of three times at most; needed with `reply`. It leads to a task: somebody has to read it.",
        ),
    ],
    example: "symptoms:\n  title: Symptom questions\n  ask:\n    title: How are you today?\n    words: Please answer a short question.\n    questions:\n      - id: breathless\n        text: Are you more out of breath than usual?\n        type: yes-no\n    remind_after: 24h\n    give_up_after: 48h\n  answered: assess\n  no_answer: call\n",
    decode,
};

#[derive(Debug)]
struct Ask {
    invitation: Message,
    reminder: Option<Template>,
    questions: Vec<Question>,
    scores: Vec<Score>,
    remind_after_ms: Option<u64>,
    give_up_after_ms: u64,
    answered: Target,
    no_answer: Option<Target>,
    late_answer: Option<Target>,
    reply: Option<reply::Reply>,
}

#[derive(Debug)]
struct Question {
    id: String,
    text: String,
    help: Option<String>,
    answer: Answer,
    required: bool,
    least: Option<i64>,
    most: Option<i64>,
    options: Vec<(String, String)>,
    weights: Vec<(String, f64)>,
}

#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Answer {
    YesNo,
    WholeNumber,
    Number,
    Text,
    Choice,
    Date,
}

fn decode(parts: &mut Parts<'_>) -> Option<Arc<dyn StepKind>> {
    let body = parts.body;
    Some(Arc::new(Ask {
        invitation: message(body)?,
        reminder: body.get("reminder").and_then(template),
        questions: body
            .get("questions")?
            .items()
            .iter()
            .map(question)
            .collect::<Option<_>>()?,
        scores: score::decode(body)?,
        remind_after_ms: length(body, "remind_after"),
        give_up_after_ms: length(body, "give_up_after")?,
        answered: parts.way("answered")?,
        no_answer: parts.way("no_answer"),
        late_answer: parts.way("late_answer"),
        reply: reply::decode(parts)?,
    }))
}

fn question(node: &Node) -> Option<Question> {
    #[allow(
        clippy::cast_possible_truncation,
        reason = "checked to be a whole number within a million"
    )]
    let whole = |name: &str| number(node, name).map(|value| value as i64);
    Some(Question {
        id: line(node, "id")?,
        text: line(node, "text")?,
        help: line(node, "help"),
        answer: match line(node, "type")?.as_str() {
            "yes-no" => Answer::YesNo,
            "whole-number" => Answer::WholeNumber,
            "number" => Answer::Number,
            "text" => Answer::Text,
            "choice" => Answer::Choice,
            _ => Answer::Date,
        },
        required: flag(node, "required").unwrap_or(true),
        least: whole("least"),
        most: whole("most"),
        options: node
            .get("options")
            .map(Node::members)
            .unwrap_or_default()
            .iter()
            .filter_map(|(key, value)| Some((key.name.clone(), value.text()?.to_owned())))
            .collect(),
        weights: score::weights(node),
    })
}

impl Question {
    /// What an answer to it may be.
    fn gives(&self) -> Given<'_> {
        match self.answer {
            Answer::YesNo => Given::Boolean,
            Answer::WholeNumber => Given::Integer,
            Answer::Number => Given::Number,
            Answer::Text => Given::Text,
            Answer::Choice => {
                let options = self.options.iter();
                Given::Code(options.map(|(code, _)| code.as_str()).collect())
            }
            Answer::Date => Given::Date,
        }
    }

    fn check(&self, check: &mut Check<'_, '_>, place: Place) {
        let id = &self.id;
        let numeric = matches!(self.answer, Answer::WholeNumber | Answer::Number);
        let choice = self.answer == Answer::Choice;
        let bounded = self.least.is_some() || self.most.is_some();
        let crossed = matches!((self.least, self.most), (Some(least), Some(most)) if least >= most);
        let options = self.options.len();
        let rules = [
            (
                bounded && !numeric,
                format!("question `{id}` has `least` or `most` but isn't a number"),
            ),
            (
                crossed,
                format!("question `{id}`: `least` isn't less than `most`"),
            ),
            (
                choice && options < 2,
                format!("question `{id}` is a choice and needs at least two `options`"),
            ),
            (
                !choice && options > 0,
                format!("question `{id}` has `options` but isn't a choice"),
            ),
        ];
        for (wrong, message) in rules {
            if wrong {
                check.findings.error("J033", place, message);
            }
        }
        self.check_weights(check, place);
    }

    /// As an item of a FHIR `Questionnaire`, with what it is in other languages.
    fn item(&self, said: &[(&str, &Asked)]) -> Value {
        let kind = match self.answer {
            Answer::YesNo => "boolean",
            Answer::WholeNumber => "integer",
            Answer::Number => "decimal",
            Answer::Text => "text",
            Answer::Choice => "choice",
            Answer::Date => "date",
        };
        let mut item =
            json!({"linkId": self.id, "text": self.text, "type": kind, "required": self.required});
        let texts = said
            .iter()
            .map(|(language, asked)| (*language, asked.text.as_str()));
        said::translate(&mut item, "text", texts);
        let mut extensions = Vec::new();
        for (name, bound) in [("minValue", self.least), ("maxValue", self.most)] {
            if let Some(bound) = bound {
                let value = if self.answer == Answer::WholeNumber {
                    "valueInteger"
                } else {
                    "valueDecimal"
                };
                extensions.push(json!({"url": format!("http://hl7.org/fhir/StructureDefinition/{name}"), value: bound}));
            }
        }
        if !extensions.is_empty() {
            item["extension"] = Value::Array(extensions);
        }
        if !self.options.is_empty() {
            item["answerOption"] = self
                .options
                .iter()
                .map(|(code, words)| {
                    let mut option = json!({"valueCoding": {"code": code, "display": words}});
                    if let Some(weight) = self.weight(code) {
                        option["valueCoding"]["extension"] = score::ordinal(weight);
                    }
                    let words = said.iter().filter_map(|(language, asked)| {
                        let mut options = asked.options.iter();
                        let (_, words) = options.find(|(other, _)| other == code)?;
                        Some((*language, words.as_str()))
                    });
                    said::translate(&mut option["valueCoding"], "display", words);
                    option
                })
                .collect();
        }
        if let Some(help) = &self.help {
            item["item"] = json!([{
                "linkId": format!("{}-help", self.id), "text": help, "type": "display",
                "extension": [{
                    "url": "http://hl7.org/fhir/StructureDefinition/questionnaire-itemControl",
                    "valueCodeableConcept": {"coding": [{"system": "http://hl7.org/fhir/questionnaire-item-control", "code": "help"}]}
                }]
            }]);
            let helps = said
                .iter()
                .filter_map(|(language, asked)| Some((*language, asked.help.as_deref()?)));
            said::translate(&mut item["item"][0], "text", helps);
        }
        item
    }
}

/// Whether answers are those to the form of a place.
fn fits(engine: &Engine<'_>, n: u32, step: &str, fact: &Fact) -> bool {
    if let Fact::Reply { task } = fact {
        return engine.resource_id(n, "task") == *task;
    }
    let Fact::Answers {
        task,
        questionnaire,
        ..
    } = fact
    else {
        return false;
    };
    match task {
        Some(task) => engine.resource_id(n, "task") == *task,
        None => {
            let ids = engine.context.ids;
            let own = engine.state.forms.get(&n);
            let own = own.map_or_else(
                || ids.questionnaire(step),
                |form| ids.questionnaire_of(form.version, &form.step),
            );
            questionnaire.as_ref() == Some(&own)
        }
    }
}

impl Ask {
    /// Learns the answers to questions that it has asked, and closes the form.
    fn take(&self, engine: &mut Engine<'_>, step: &Step, n: u32, fact: &Fact) {
        let Fact::Answers { answers, .. } = fact else {
            return;
        };
        let mut known: Map<String, Value> = self
            .questions
            .iter()
            .filter_map(|question| Some((question.id.clone(), answers.get(&question.id)?.clone())))
            .collect();
        known.extend(self.scores(&known, engine.context.now_ms));
        engine
            .state
            .facts
            .insert(step.id.clone(), Value::Object(known));
        engine.answered = Some(step.id.clone());
        engine.state.forms.remove(&n);
        engine.close_task(n, true, "Answered");
    }

    fn check_questions(&self, check: &mut Check<'_, '_>, step: &Step) {
        let places: Vec<Place> = check
            .node(step, &["ask", "questions"])
            .map(|node| node.items().iter().map(|item| item.place).collect())
            .unwrap_or_default();
        for (index, question) in self.questions.iter().enumerate() {
            let place = places.get(index).copied().unwrap_or(step.place);
            if self.questions[..index]
                .iter()
                .any(|earlier| earlier.id == question.id)
            {
                check.findings.error(
                    "J024",
                    place,
                    format!("question `{}` stands twice in `{}`", question.id, step.id),
                );
            }
            question.check(check, place);
        }
    }
}

impl StepKind for Ask {
    fn table(&self) -> &'static Kind {
        &KIND
    }
    fn ran_out(&self, label: &str) -> bool {
        label == "no answer"
    }
    fn ways(&self) -> Vec<Way<'_>> {
        let mut ways = vec![way("answered", &self.answered, false)];
        for (label, target) in [
            ("no answer", &self.no_answer),
            (crate::passages::LATE_ANSWER, &self.late_answer),
        ] {
            ways.extend(target.as_ref().map(|target| way(label, target, false)));
        }
        ways.extend(self.unread_way());
        ways
    }
    fn starts_branch(&self, label: &str) -> bool {
        label == crate::passages::LATE_ANSWER || label == crate::passages::UNCLEAR
    }
    fn unread_way(&self) -> Option<Way<'_>> {
        let target = self.reply.as_ref()?.unclear()?;
        Some(way(crate::passages::UNCLEAR, target, false))
    }
    fn unseen(&self) -> Vec<Way<'_>> {
        let mut ways = self.ways();
        ways.retain(|way| self.cannot_wait() && way.label == "no answer");
        ways
    }
    fn gives(&self) -> Vec<(&str, Given<'_>)> {
        let questions = (self.questions.iter()).map(|one| (one.id.as_str(), one.gives()));
        let scores = (self.scores.iter()).map(|score| (score.id.as_str(), Given::Number));
        questions.chain(scores).collect()
    }
    fn is_answered(&self) -> bool {
        true
    }
    fn tells_risk(&self) -> Vec<&str> {
        self.scores.iter().map(|score| score.id.as_str()).collect()
    }
    fn types(&self) -> &'static [ResourceType] {
        &[
            ResourceType::Communication,
            ResourceType::QuestionnaireResponse,
        ]
    }

    fn check(&self, check: &mut Check<'_, '_>, step: &Step) {
        check.messages(step);
        if self.no_answer.is_none() {
            check.findings.error(
                "J013",
                step.place,
                format!(
                    "`{}` has no `no_answer`: say what happens when the patient doesn't answer",
                    step.id
                ),
            );
        }
        if let Some(remind_ms) = self.remind_after_ms
            && remind_ms >= self.give_up_after_ms
        {
            let place = check.at(step, &["ask", "remind_after"]);
            check.findings.error(
                "J030",
                place,
                format!(
                    "the reminder after {} comes when the journey has given up after {}",
                    say_duration(remind_ms),
                    say_duration(self.give_up_after_ms)
                ),
            );
        }
        self.check_questions(check, step);
        self.check_scores(check, step);
        self.check_translations(check, step);
        self.check_reply(check, step);
    }
    fn leaves_within(&self, _: &Definition, label: &str) -> Option<u64> {
        (!self.starts_branch(label)).then_some(self.give_up_after_ms)
    }
    fn has_time(&self, variable: &str) -> bool {
        variable == "due.day"
    }

    fn stand(&self, _: &Definition, _: &State, _: u64) -> Stand {
        Stand::Asking {
            invited_by: 0,
            reminded_by: None,
        }
    }
    fn makes(&self) -> Option<(ResourceType, &'static str)> {
        Some((ResourceType::Task, "task"))
    }
    fn enter(&self, engine: &mut Engine<'_>, step: &Step, n: u32) {
        // Who is asked again answers the new form; one of before would be a second one of the same questions.
        let late = std::mem::take(&mut engine.state.late);
        let (same, others): (Vec<Late>, Vec<Late>) =
            late.into_iter().partition(|late| late.step == step.id);
        engine.state.late = others;
        for late in &same {
            self.close_late(engine, late, "Asked again");
        }
        // Nothing is known of this form yet: neither an answer nor a score of an earlier one is one to it.
        engine.state.facts.remove(&step.id);
        let task = engine.resource_id(n, "task");
        let due_ms = engine.context.now_ms + self.give_up_after_ms;
        engine.effects.push(Effect::OpenForm {
            step: step.id.clone(),
            task,
            due_ms,
        });
        engine.send(step, n, Which::Invitation, 0);
    }
    fn timers(&self, _: &Definition, _: &State, token: &Token) -> Vec<(&'static str, u64)> {
        let Stand::Asking { reminded_by, .. } = &token.stand else {
            return Vec::new();
        };
        let mut timers = vec![("until", token.since_ms + self.give_up_after_ms)];
        if let (Some(after_ms), None) = (self.remind_after_ms, reminded_by) {
            timers.push(("remind", token.since_ms + after_ms));
        }
        timers
    }
    fn due(
        &self,
        engine: &mut Engine<'_>,
        step: &Step,
        token: &Token,
        slot: &str,
    ) -> Result<(), EngineError> {
        if !matches!(token.stand, Stand::Asking { .. }) {
            return Err(EngineError::NoStep(token.step.clone()));
        }
        let n = token.n;
        if slot == "remind" {
            if token.since_ms + self.give_up_after_ms > engine.context.now_ms {
                engine.send(step, n, Which::Reminder, 0);
            } else if let Some(Stand::Asking { reminded_by, .. }) = engine.stand_mut(n) {
                // The house was dark past both; a reminder of what is given up at once helps nobody.
                *reminded_by = Some(u8::MAX);
            }
            return Ok(());
        }
        if self.late_answer.is_some() {
            engine.state.late.push(Late {
                n,
                step: step.id.clone(),
            });
        } else {
            engine.close_task(n, false, "No answer in time");
        }
        engine.call_off(token, CALLED_OFF, "No answer in time");
        let target = self.no_answer.clone().unwrap_or_default();
        engine.leave(n, "no answer", &target);
        Ok(())
    }
    fn skips(&self, _: &Stand) -> Vec<Way<'_>> {
        let mut ways = self.ways();
        ways.retain(|way| !self.starts_branch(&way.label));
        ways
    }
    fn skip(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, way: &Way<'_>) {
        if way.label == "answered" {
            engine.answered = Some(step.id.clone());
            // Who waits for it from later on finds that it was, and no answers.
            let facts = &mut engine.state.facts;
            facts.entry(step.id.clone()).or_insert_with(|| json!({}));
        }
        engine.leave(token.n, &way.label, way.target);
    }
    fn claims(&self, engine: &Engine<'_>, token: &Token, fact: &Fact) -> bool {
        matches!(token.stand, Stand::Asking { .. }) && fits(engine, token.n, &token.step, fact)
    }
    fn told(&self, engine: &mut Engine<'_>, step: &Step, token: &Token, fact: &Fact) {
        if reply::is_reply(fact) {
            // The form stays open: the answer may still come.
            return self.spawn_unclear(engine, step);
        }
        self.take(engine, step, token.n, fact);
        engine.call_off(token, CALLED_OFF, "Answered");
        engine.trail(&step.id, What::Answered, None);
        engine.leave(token.n, "answered", &self.answered);
    }
    fn claims_late(&self, engine: &Engine<'_>, late: &Late, fact: &Fact) -> bool {
        fits(engine, late.n, &late.step, fact)
    }
    fn unread(&self, engine: &mut Engine<'_>, step: &Step) {
        self.spawn_unclear(engine, step);
    }
    fn told_late(&self, engine: &mut Engine<'_>, step: &Step, late: &Late, fact: &Fact) {
        if reply::is_reply(fact) {
            engine.state.late.push(late.clone());
            return self.spawn_unclear(engine, step);
        }
        self.take(engine, step, late.n, fact);
        let target = self.late_answer.clone().unwrap_or_default();
        let to = engine.names(&target);
        engine.trail(&step.id, What::LateAnswer { to }, None);
        engine.spawn(&target);
    }
    fn close(&self, engine: &mut Engine<'_>, token: &Token, why: &str, _: bool) {
        if matches!(token.stand, Stand::Asking { .. }) {
            engine.close_task(token.n, false, why);
        }
    }
    fn close_late(&self, engine: &mut Engine<'_>, late: &Late, why: &str) {
        engine.close_task(late.n, false, why);
    }

    fn sends(&self) -> Vec<(&Message, u64)> {
        let times = std::iter::once(0).chain(self.remind_after_ms);
        times.map(|after_ms| (&self.invitation, after_ms)).collect()
    }
    fn arrives(&self, _: &Definition, label: &str, here_ms: u64) -> u64 {
        if label == "no answer" {
            here_ms.saturating_add(self.give_up_after_ms)
        } else {
            here_ms
        }
    }
    fn topic(&self) -> Topic {
        Topic::Forms
    }
    fn message(&self) -> Option<&Message> {
        Some(&self.invitation)
    }
    fn by_reply(&self, language: &str) -> Option<ByReply<'_>> {
        self.said_by_reply(language)
    }
    fn wording(&self, which: Which) -> Option<(&Template, String)> {
        let Message { title, words, .. } = &self.invitation;
        Some(if which == Which::Reminder {
            (
                self.reminder.as_ref().unwrap_or(words),
                format!("Reminder: {title}"),
            )
        } else {
            (words, title.clone())
        })
    }
    fn under_way(&self, stand: &Stand) -> Vec<(Which, u8)> {
        match stand {
            Stand::Asking {
                invited_by,
                reminded_by,
            } => std::iter::once((Which::Invitation, *invited_by))
                .chain(reminded_by.map(|place| (Which::Reminder, place)))
                .collect(),
            _ => Vec::new(),
        }
    }
    fn goes_out(
        &self,
        stand: &mut Stand,
        which: Which,
        channel: u8,
        since_ms: u64,
        _: u64,
    ) -> Option<u64> {
        let Stand::Asking {
            invited_by,
            reminded_by,
        } = stand
        else {
            return None;
        };
        match which {
            Which::Reminder => *reminded_by = Some(channel),
            _ => *invited_by = channel,
        }
        Some(since_ms + self.give_up_after_ms)
    }
    /// A form lies in the portal whether or not the invitation arrived, so it is waited for all the same.
    fn undelivered(&self, engine: &mut Engine<'_>, n: u32, which: Which) {
        // Remembered as "past the last", so that a repeated receipt finds nothing to do.
        let past = u8::try_from(self.invitation.channels.len()).unwrap_or(u8::MAX);
        if let Some(Stand::Asking {
            invited_by,
            reminded_by,
        }) = engine.stand_mut(n)
        {
            match which {
                Which::Reminder => *reminded_by = Some(past),
                _ => *invited_by = past,
            }
        }
    }

    fn carried(&self, _: &Stand, before: &Node, after: &Node) -> Carried {
        // The patient fills in what lies in the portal, so the questions have to be those. Who was asked by text message
        // may write back, and somebody has to read it.
        let replied = |step: &Node| {
            let body = step.get(KIND.name);
            body.is_some_and(|body| body.get("reply").is_some())
        };
        let is_read = !replied(before) || replied(after);
        let members = ["questions", "scores", "channels"];
        if is_read && same_of(before, after, KIND.name, &members) {
            Carried::As
        } else {
            Carried::Anew
        }
    }

    fn promise(&self) -> String {
        format!("We will ask you some questions: {}", self.invitation.title)
    }
    fn waiting(&self, _: &Definition, _: &State, token: &Token) -> Option<Waiting> {
        let Stand::Asking { reminded_by, .. } = &token.stand else {
            return None;
        };
        let reminder = match (self.remind_after_ms, reminded_by) {
            (Some(after_ms), None) => {
                format!("; a reminder goes out after {}", say_duration(after_ms))
            }
            (Some(_), Some(_)) => "; the patient has been reminded".to_owned(),
            (None, _) => String::new(),
        };
        Some(Waiting {
            what: match &self.reply {
                Some(_) => format!(
                    "Waits for the patient's answer, by text message or in the portal{reminder}"
                ),
                None => format!("Waits for the patient's answer{reminder}"),
            },
            plain: format!("Please answer a few questions: {}", self.invitation.title),
            until_ms: Some(token.since_ms + self.give_up_after_ms),
        })
    }
    fn entered(&self, title: &str) -> Option<String> {
        Some(format!("Form opened: {title}"))
    }
    fn left(&self, title: &str, label: &str) -> Option<String> {
        // The answer has an entry of its own.
        (label != "answered").then(|| crate::words::left(title, label))
    }
    fn plan(&self, step: &Step, what: &What) -> Option<Plan> {
        match what {
            What::Entered => Some(Plan {
                what: format!("Form: {}", step.title),
                plain: crate::words::plain(step),
            }),
            What::Sent {
                which: Which::Reminder,
                ..
            } => Some(Plan {
                what: format!("Reminder if there is no answer: {}", step.title),
                plain: format!(
                    "We will remind you if you have not answered: {}",
                    self.invitation.title
                ),
            }),
            What::Left { label, .. } if label == "no answer" => Some(Plan {
                what: format!("Given up on if there is no answer: {}", step.title),
                plain: String::new(),
            }),
            _ => None,
        }
    }

    fn resource(
        &self,
        maker: &Maker<'_>,
        ids: &dyn Ids,
        step: &Step,
        effect: &Effect,
    ) -> Option<Resource> {
        let Effect::OpenForm { task, due_ms, .. } = effect else {
            return None;
        };
        let mut opened = json!({
                "identifier": maker.identifiers(&step.id),
                "status": "requested",
                "intent": "order",
                "priority": "routine",
                "code": {"coding": [{"system": TASK_SYSTEM, "code": "complete-questionnaire"}], "text": "Fill in a form"},
                "description": self.invitation.title,
                "for": maker.subject(),
                "authoredOn": maker.now(),
                "owner": maker.subject(),
                "restriction": {"period": {"end": fhir::date::instant(*due_ms)}},
                "input": [{"type": {"text": "questionnaire"}, "valueCanonical": ids.questionnaire(&step.id)}],
        });
        // The patient sees its name in their list before they open it.
        self.name_in_languages(&mut opened, maker.definition, "description");
        Some(resource(ResourceType::Task, task, opened))
    }
    fn questionnaire(
        &self,
        definition: &Definition,
        version: u32,
        step: &Step,
        id: &str,
        now_ms: u64,
    ) -> Option<Resource> {
        let items = self.questions.iter();
        let items: Vec<Value> = items
            .map(|question| question.item(&self.said(question)))
            .collect();
        let mut form = json!({
                "url": format!("urn:cairn:questionnaire:{}:{}", definition.name, step.id),
                "version": version.to_string(),
                "name": step.id,
                "title": self.invitation.title,
                "status": "active",
                "subjectType": ["Patient"],
                "date": fhir::date::instant(now_ms),
                "item": items,
        });
        self.name_in_languages(&mut form, definition, "title");
        Some(resource(ResourceType::Questionnaire, id, form))
    }
}
