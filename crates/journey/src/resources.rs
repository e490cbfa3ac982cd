//! From effects to FHIR resources, as `trust::conventions` describes them. Pure.

use crate::definition::{Channel, Definition, Message, Step};
use crate::engine::About;
use crate::languages::{self, ENGLISH};
use crate::room::{Urgency, Why};
use crate::state::{Held, State, Which};
use crate::template::{self, Template};
use crate::time;
use fhir::{Resource, ResourceType};
use serde_json::{Map, Value, json};
use trust::consent::{Hours, Sort, Unwelcome};
use trust::conventions::{
    BATCH_SYSTEM, BEYOND_LIMITS_URL, INSTANCE_SYSTEM, MEDIUM_SYSTEM, NO_RECEIPT, NOT_DONE_SYSTEM,
    ROLE_SYSTEM, SMS_SYSTEM, STEP_SYSTEM, performer_types, queue_of,
};
use trust::outgoing::{CallStanding, WhileAdmitted};

/// What an e-mail says when the journey gives no words: nothing but that there is something to read.
const EMAIL_SUBJECT: &str = "You have a new message";
const EMAIL_TEXT: &str = "Hello,\n\nThere is a new message for you from your care team.\n\nTo read it, open this link:\n{link}\n\nPlease don't reply to this e-mail.\n";
/// The same on the telephone.
pub(crate) const VOICE_TEXT: &str = "Hello. There is a new message for you from your care team. Please sign in to the portal to read it, or call your care team.";
/// The same of a text message.
pub(crate) const SMS_TEXT: &str = "There is a new message for you from your care team: {link}";

/// What is said of a message that was not delivered in its time.
pub(crate) const TOO_LATE: &str = "Not delivered in time";
/// The same of one that has left, and of which nothing was heard: it may well be there.
const NOTHING_HEARD: &str = "No receipt came in its time";
/// What stands beside a task that was handed over.
const HANDED_OVER: &str = "Not done in time; handed over";

/// Makes the resources of one journey of one patient.
pub(crate) struct Maker<'a> {
    pub(crate) definition: &'a Definition,
    pub(crate) instance: &'a str,
    pub(crate) state: &'a State,
    pub(crate) patient: Option<&'a Resource>,
    pub(crate) now_ms: u64,
}

/// Times that words may name.
#[derive(Clone, Copy, Default)]
pub(crate) struct Times {
    pub(crate) due_ms: Option<u64>,
    pub(crate) visit_ms: Option<u64>,
}

/// A message in the words of one language.
struct Said<'s> {
    message: &'s Message,
    title: String,
    words: &'s Template,
    email: Option<&'s (Template, Template)>,
    sms: Option<&'s Template>,
    voice: Option<&'s Template>,
    script: Option<&'s str>,
    language: &'s str,
    translated: bool,
}

impl Said<'_> {
    /// Whether what is spoken is in the journey's own language, because the other has no words for it.
    fn is_own_voice(&self) -> bool {
        let own = self.message.voice.as_ref();
        self.translated
            && own
                .zip(self.voice)
                .is_some_and(|(own, said)| std::ptr::eq(own, said))
    }
    /// Whether it has to be said which language it is in: what is in none is English.
    fn is_marked(&self) -> bool {
        self.translated || self.language != ENGLISH
    }
}

impl Times {
    /// Those of a message that is about something, and counts until a time.
    pub(crate) fn of(about: Option<&About>, until_ms: u64) -> Self {
        match about {
            Some(About::Form(_)) => Self {
                due_ms: Some(until_ms),
                visit_ms: None,
            },
            Some(About::Visit {
                start_ms, by_ms, ..
            }) => Self {
                due_ms: *by_ms,
                visit_ms: Some(*start_ms),
            },
            None => Self::default(),
        }
    }
}

/// The members of an object.
fn object(value: Value) -> Map<String, Value> {
    match value {
        Value::Object(members) => members,
        _ => Map::new(),
    }
}

/// A resource with these members; those that are `null` are left out.
pub(crate) fn resource(kind: ResourceType, id: &str, members: Value) -> Resource {
    let mut resource = Resource::new(kind);
    resource.set_id(id);
    for (name, value) in object(members) {
        if !value.is_null() {
            resource.set(&name, value);
        }
    }
    resource
}

impl Maker<'_> {
    pub(crate) fn identifiers(&self, step: &str) -> Value {
        json!([
            {"system": INSTANCE_SYSTEM, "value": self.instance},
            {"system": STEP_SYSTEM, "value": format!("{}/{}/{step}", self.definition.name, self.definition.version)}
        ])
    }
    pub(crate) fn subject(&self) -> Value {
        json!({"reference": format!("Patient/{}", self.state.patient)})
    }
    pub(crate) fn now(&self) -> String {
        fhir::date::instant(self.now_ms)
    }

    /// The words of a template for this patient.
    pub(crate) fn words(&self, template: &Template, times: Times) -> String {
        self.words_in(template, times, false)
    }

    /// The same; days as dates where the words are in another language than this program's.
    fn words_in(&self, template: &Template, times: Times, dates: bool) -> String {
        let zone = &self.definition.zone;
        let say_day = if dates { time::say_date } else { time::say_day };
        template.render(&|name| match name {
            // Stays as it is: the deliverer puts the link in, which may sign the patient in.
            "link" => Some("{link}".to_owned()),
            "owner" => Some(self.definition.owner.clone()),
            "journey.title" => Some(self.definition.title.clone()),
            "due.day" => times.due_ms.map(|due_ms| say_day(due_ms, zone)),
            "visit.day" => times.visit_ms.map(|visit_ms| say_day(visit_ms, zone)),
            "visit.time" => times
                .visit_ms
                .map(|visit_ms| time::say_time(visit_ms, zone)),
            "patient.given" => self.name("given"),
            "patient.family" => self.name("family"),
            other => {
                template::fact(&self.state.facts, other).or_else(|| self.anchor(other, say_day))
            }
        })
    }

    /// The day or the time of day of `anchor.day` and `anchor.time`, as the anchor is now.
    fn anchor(
        &self,
        name: &str,
        say_day: fn(u64, &jiff::tz::TimeZone) -> String,
    ) -> Option<String> {
        let (anchor, member) = name.split_once('.')?;
        let at_ms = *self.state.anchors.get(anchor)?;
        let zone = &self.definition.zone;
        match member {
            "day" => Some(say_day(at_ms, zone)),
            "time" => Some(time::say_time(at_ms, zone)),
            _ => None,
        }
    }

    pub(crate) fn name(&self, part: &str) -> Option<String> {
        let names = self.patient?.get("name")?.as_array()?;
        let usual = ["usual", "official"].iter().find_map(|wanted| {
            names
                .iter()
                .find(|name| name.get("use").and_then(Value::as_str) == Some(wanted))
        });
        let value = usual.or_else(|| names.first())?.get(part)?;
        value
            .as_str()
            .or_else(|| value.get(0)?.as_str())
            .map(str::to_owned)
    }

    /// What a step's message says to this patient, in the language that they prefer if it is there.
    fn said<'s>(&'s self, step: &'s Step, which: Which) -> Option<Said<'s>> {
        let message = step.kind.message_of(which)?;
        let (words, title) = step.kind.wording(which)?;
        let own = &self.definition.language;
        let Some(other) = languages::choose(self.patient, own, &message.translations) else {
            return Some(Said {
                message,
                title,
                words,
                email: message.email.as_ref(),
                sms: message.sms.as_ref(),
                voice: message.voice.as_ref(),
                script: message.script.as_deref(),
                language: own,
                translated: false,
            });
        };
        let own_words = match which {
            Which::Reminder | Which::Again { .. } => other.reminder.as_ref(),
            Which::CalledOff { .. } => other.called_off.as_ref(),
            _ => None,
        };
        Some(Said {
            message,
            title: other.title.clone(),
            words: own_words.unwrap_or(&other.words),
            email: other.email.as_ref().or(message.email.as_ref()),
            sms: other.sms.as_ref().or(message.sms.as_ref()),
            voice: other.voice.as_ref().or(message.voice.as_ref()),
            // A recording is in one language.
            script: match &other.voice {
                Some(_) => other.script.as_deref(),
                None => message.script.as_deref(),
            },
            language: &other.language,
            translated: true,
        })
    }

    fn say(&self, said: &Said<'_>, times: Times) -> String {
        let english = said.language == ENGLISH || said.language.starts_with("en-");
        self.words_in(said.words, times, said.translated && !english)
    }

    /// A message as the patient sees it behind login. `refused`: the code why it isn't even sent.
    #[allow(
        clippy::too_many_arguments,
        reason = "each is a different part of the message"
    )]
    pub(crate) fn communication(
        &self,
        step: &Step,
        which: Which,
        id: &str,
        channel: Channel,
        about: Option<&About>,
        times: Times,
        refused: Option<&str>,
    ) -> Option<Resource> {
        let said = self.said(step, which)?;
        let status = match (refused, channel) {
            (Some(_), _) => "not-done",
            (None, Channel::Portal) => "completed",
            (None, _) => "preparation",
        };
        Some(resource(
            ResourceType::Communication,
            id,
            json!({
                "extension": is_beyond_limits(which)
                    .then(|| json!([{"url": BEYOND_LIMITS_URL, "valueBoolean": true}])),
                "identifier": self.identifiers(&step.id),
                "status": status,
                "statusReason": refused.map(|code| refusal(code, step.sort(which), channel)),
                "medium": medium(channel),
                "subject": self.subject(),
                "language": said.is_marked().then_some(said.language),
                "topic": {"text": said.title},
                "about": about.map(references),
                "sent": (status == "completed").then(|| self.now()),
                "recipient": [self.subject()],
                "payload": [{"contentString": self.say(&said, times)}],
            }),
        ))
    }

    /// A message that was ordered and has to wait, as others see it.
    pub(crate) fn ordered(
        &self,
        step: &Step,
        held: &Held,
        id: &str,
        channel: Channel,
        about: Option<&About>,
    ) -> Option<Resource> {
        let said = self.said(step, held.which)?;
        let times = Times::of(about, held.until_ms);
        let priority = match said.message.urgency {
            Urgency::Routine => "routine",
            Urgency::Important => "urgent",
            Urgency::Clinical => "stat",
        };
        let mut order = resource(
            ResourceType::CommunicationRequest,
            id,
            json!({
                "identifier": self.identifiers(&step.id),
                "priority": priority,
                "medium": medium(channel),
                "subject": self.subject(),
                "about": about.map(references),
                "language": said.is_marked().then_some(said.language),
                "payload": [{"contentString": self.say(&said, times)}],
                "authoredOn": self.now(),
                "recipient": [self.subject()],
            }),
        );
        waits(&mut order, held, self.state.paused.is_some());
        Some(order)
    }

    /// The same message on its way by an open channel: words without PHI.
    pub(crate) fn outgoing(
        &self,
        step: &Step,
        which: Which,
        channel: Channel,
        communication: &str,
        expires_ms: u64,
        about: Option<&About>,
    ) -> Option<trust::outgoing::Message> {
        let said = self.said(step, which)?;
        let asks = (step.kind.by_reply(said.language))
            .filter(|_| channel == Channel::Sms && said.sms.is_some())
            .zip(about.and_then(About::form));
        let (subject, mut text) = match (channel, said.email, said.sms) {
            (Channel::Sms, _, Some(text)) => (String::new(), self.words(text, Times::default())),
            (Channel::Sms, _, None) => (String::new(), SMS_TEXT.to_owned()),
            (Channel::Voice, ..) => {
                let text = said.voice.map(|text| self.words(text, Times::default()));
                (String::new(), text.unwrap_or_else(|| VOICE_TEXT.to_owned()))
            }
            // Who delivers says what a locked screen shows. A letter says what the message itself does, which may hold
            // PHI, and stands nowhere twice.
            (Channel::Push | Channel::Letter, _, _) => (String::new(), String::new()),
            (_, Some((subject, text)), _) => (
                self.words(subject, Times::default()),
                self.words(text, Times::default()),
            ),
            (_, None, _) => (EMAIL_SUBJECT.to_owned(), EMAIL_TEXT.to_owned()),
        };
        let question = asks.map(|(asked, task)| {
            text.push_str(&asked.options);
            let own = self.definition.language.as_str();
            let language = if asked.is_translated {
                said.language
            } else {
                own
            };
            trust::outgoing::Question {
                task: task.to_owned(),
                again: self.words(asked.again, Times::default()),
                language: language.to_owned(),
            }
        });
        Some(trust::outgoing::Message {
            patient: self.state.patient.clone(),
            proxy: None,
            communication: communication.to_owned(),
            channel: channel.name().to_owned(),
            purpose: self.definition.purpose.code().to_owned(),
            about: self
                .definition
                .about()
                .iter()
                .map(|kind| kind.name().to_owned())
                .collect(),
            subject,
            text,
            link_path: format!("/portal/inbox/{communication}"),
            journey: format!("{}/{}", self.definition.name, self.definition.version),
            step: step.id.clone(),
            expires_ms: Some(expires_ms),
            hours: self.hours(said.message, which),
            sort: step.sort(which),
            unanswered: 0,
            segments: None,
            language: matches!(channel, Channel::Voice | Channel::Letter)
                .then(|| self.spoken(&said, channel).to_owned()),
            script: (said.script.filter(|_| channel == Channel::Voice)).map(str::to_owned),
            question,
            visit: about.and_then(|about| entry(about, which)),
            while_admitted: if is_beyond_limits(which) {
                WhileAdmitted::Send
            } else {
                said.message.while_admitted()
            },
        })
    }

    /// The language of a letter, or of what is spoken.
    fn spoken<'s>(&'s self, said: &'s Said<'_>, channel: Channel) -> &'s str {
        let own = self.definition.language.as_str();
        match channel {
            Channel::Voice if said.voice.is_none() => ENGLISH,
            Channel::Voice if said.is_own_voice() => own,
            _ => said.language,
        }
    }

    /// When a message may leave, beside what the organisation says; nothing of one that can't wait.
    fn hours(&self, message: &Message, which: Which) -> Option<Hours> {
        let own = &self.definition.limits;
        let waits = message.urgency != Urgency::Clinical && !is_beyond_limits(which);
        waits.then(|| Hours {
            zone: (self.definition.zone.iana_name())
                .unwrap_or("UTC")
                .to_owned(),
            quiet: own.quiet,
            window: message.window.clone(),
            per_day: own.per_day,
            per_week: own.per_week,
            important: message.urgency == Urgency::Important,
            let_go_ms: Some(self.now_ms),
        })
    }
}

/// Whether a message goes out past quiet hours and limits, and counts in none: who isn't told that a visit was called off
/// comes in vain.
fn is_beyond_limits(which: Which) -> bool {
    matches!(which, Which::CalledOff { .. })
}

/// The entry in the patient's calendar that a message about a visit brings.
fn entry(about: &About, which: Which) -> Option<trust::outgoing::Visit> {
    let About::Visit {
        appointment,
        start_ms,
        calendar: Some(calendar),
        ..
    } = about
    else {
        return None;
    };
    // What asks to book it is about a time that isn't one yet.
    let of_booked = matches!(
        which,
        Which::Booked { .. } | Which::Ahead { .. } | Which::CalledOff { .. }
    );
    of_booked.then(|| trust::outgoing::Visit {
        appointment: appointment.clone(),
        start_ms: *start_ms,
        end_ms: calendar.end_ms,
        sequence: calendar.sequence,
        cancelled: calendar.cancelled,
        // Whoever puts it on its way looks at the visit.
        online: false,
    })
}

fn references(about: &About) -> Value {
    json!([{"reference": about.reference()}])
}

fn medium(channel: Channel) -> Value {
    let code = match channel {
        Channel::Email => "EMAILWRIT",
        Channel::Sms => "SMSWRIT",
        Channel::Push => "PUSH",
        Channel::Letter => "MAILWRIT",
        Channel::Voice => "PHONE",
        Channel::Portal => "PORTAL",
    };
    json!([{"coding": [{"system": MEDIUM_SYSTEM, "code": code}]}])
}

/// Says in an order until when its message waits and what for; `on_hold` while somebody holds the journey.
pub(crate) fn waits(order: &mut Resource, held: &Held, on_hold: bool) {
    order.set("status", json!(if on_hold { "on-hold" } else { "active" }));
    let why = match held.why {
        Why::Quiet => "It waits for the end of quiet hours",
        Why::Capped => "It waits for room among the patient's messages",
    };
    order.set("statusReason", json!({"text": why}));
    let (from, until) = (held.at_ms, held.until_ms);
    order.set(
        "occurrencePeriod",
        json!({"start": fhir::date::instant(from), "end": fhir::date::instant(until)}),
    );
}

/// Ends an order: its message went out, or nobody waits for it any more.
pub(crate) fn ends(order: &mut Resource, sent: bool) {
    let (status, why) = if sent {
        ("completed", "It was put on its way")
    } else {
        ("revoked", "It is not needed any more, or its time was over")
    };
    order.set("status", json!(status));
    order.set("statusReason", json!({"text": why}));
}

pub(crate) fn role(code: &str) -> Value {
    json!({"coding": [{"system": ROLE_SYSTEM, "code": code}]})
}

/// Why a message isn't even sent. What a patient doesn't want is named.
fn refusal(code: &str, sort: Option<Sort>, channel: Channel) -> Value {
    let mut reason = not_done(code);
    let mut all = [Unwelcome::Topic, Unwelcome::Routine].into_iter();
    if let (Some(why), Some(sort)) = (all.find(|why| why.code() == code), sort) {
        reason["text"] = why.words(sort.topic, channel.reach()).into();
    }
    reason
}

pub(crate) fn not_done(code: &str) -> Value {
    json!({"coding": [{"system": NOT_DONE_SYSTEM, "code": code}], "text": crate::words::not_done(code)})
}

/// Whether a task, visit or message can still be changed by a journey.
pub(crate) fn open(resource: &Resource) -> bool {
    !matches!(
        resource.text_at(&["status"]),
        Some(
            "completed"
                | "cancelled"
                | "failed"
                | "rejected"
                | "entered-in-error"
                | "fulfilled"
                | "noshow"
                | "not-done"
                | "stopped"
                | "revoked"
        )
    )
}

/// Closes a task.
pub(crate) fn close(task: &mut Resource, done: bool, why: &str, now_ms: u64) {
    task.set(
        "status",
        json!(if done { "completed" } else { "cancelled" }),
    );
    task.set("statusReason", json!({"text": why}));
    task.set("lastModified", json!(fhir::date::instant(now_ms)));
}

/// Hands a task over to another role.
pub(crate) fn hand_over(task: &mut Resource, to: &str, priority: &str, now_ms: u64) {
    task.set("priority", json!(priority));
    let whose = performer_types(to, queue_of(task));
    task.set("performerType", whose);
    task.set("businessStatus", json!({"text": HANDED_OVER}));
    task.set("lastModified", json!(fhir::date::instant(now_ms)));
}

/// Holds a call back that hasn't left yet. Who delivers passes over it.
pub(crate) fn hold_call(task: &mut Resource) {
    task.set("status", json!("on-hold"));
    task.set("statusReason", json!({"text": "The journey is held"}));
}

/// Lets a call go that was held back. How far it is then, if it was.
pub(crate) fn call_on(task: &mut Resource) -> Option<CallStanding> {
    if task.text_at(&["status"]) != Some("on-hold") {
        return None;
    }
    task.set("status", json!("in-progress"));
    task.remove("statusReason");
    let before = CallStanding::of(task);
    let standing = CallStanding {
        turn: before.turn.saturating_add(1),
        ..before
    };
    task.set("businessStatus", standing.status("Let go on"));
    Some(standing)
}

/// Calls a message off that hasn't left yet: its time is over, or nobody needs it any more.
pub(crate) fn call_off(message: &mut Resource, code: &str, why: &str) {
    let status = if code == crate::engine::CALLED_OFF {
        "stopped"
    } else {
        "not-done"
    };
    message.set("status", json!(status));
    message.set(
        "statusReason",
        json!({"coding": [{"system": NOT_DONE_SYSTEM, "code": code}], "text": why}),
    );
}

/// Whether a provider, a mail server or a closed batch has a message, of which nobody knows yet whether it arrives or comes back.
fn has_left(message: &Resource) -> bool {
    let identifiers = message.get("identifier").and_then(Value::as_array);
    let mut identifiers = identifiers.into_iter().flatten();
    message.text_at(&["status"]) == Some("in-progress")
        && (message.get("sent").is_some()
            || identifiers.any(|one| one["system"] == SMS_SYSTEM || one["system"] == BATCH_SYSTEM))
}

/// Whether a mail server has a message, and it has not come back: it has arrived, or will have.
pub(crate) fn may_have_arrived(message: &Resource) -> bool {
    has_left(message) || message.text_at(&["status"]) == Some("completed")
}

/// Why it is where it is, where that is so because an answer never came: the provider may have it.
fn unanswered(message: &Resource) -> Option<Value> {
    let codings = message.at(&["statusReason", "coding"])?.as_array()?;
    let found = codings.iter().find(|coding| coding["code"] == NO_RECEIPT)?;
    Some(found.clone())
}

/// The same of one that may have left. That nobody needs it any more can't be said of one that has; where its time is
/// over, it is said that no receipt came. Whether it was called off.
pub(crate) fn calls_off(message: &mut Resource, code: &str, why: &str) -> bool {
    let is_late = code != crate::engine::CALLED_OFF;
    let unanswered = unanswered(message);
    match (has_left(message), is_late) {
        (true, false) => return false,
        (true, true) => call_off(message, NO_RECEIPT, NOTHING_HEARD),
        (false, true) if unanswered.is_some() => call_off(message, NO_RECEIPT, NOTHING_HEARD),
        (false, _) => {
            call_off(message, code, why);
            keep(message, unanswered);
        }
    }
    true
}

/// Goes on saying that the provider may have a message.
fn keep(message: &mut Resource, unanswered: Option<Value>) {
    let Some(coding) = unanswered else { return };
    let mut reason = message.get("statusReason").cloned();
    let reason = reason.get_or_insert_with(|| json!({}));
    let mut codings = reason["coding"].as_array().cloned().unwrap_or_default();
    codings.push(coding);
    reason["coding"] = Value::Array(codings);
    message.set("statusReason", reason.clone());
}

/// Holds a message back that hasn't left yet. Who delivers passes over it. One that has left goes its way.
pub(crate) fn hold(message: &mut Resource) {
    if has_left(message) {
        return;
    }
    let unanswered = unanswered(message);
    message.set("status", json!("on-hold"));
    message.set("statusReason", json!({"text": "The journey is held"}));
    keep(message, unanswered);
}

/// Lets a message go that was held back. Whether it was.
pub(crate) fn release(message: &mut Resource) -> bool {
    let held = message.text_at(&["status"]) == Some("on-hold");
    if held {
        let unanswered = unanswered(message);
        message.set("status", json!("preparation"));
        message.remove("statusReason");
        keep(message, unanswered);
    }
    held
}

/// Takes a proposed visit back.
pub(crate) fn cancel(visit: &mut Resource, why: &str) {
    visit.set("status", json!("cancelled"));
    visit.set("cancelationReason", json!({"text": why}));
}

/// Whether what somebody has changed in a resource that a journey made is what the journey itself changes in it: the
/// one version made of the other again says so.
pub(crate) fn is_own_change(before: &Resource, after: &Resource) -> bool {
    let mut made = before.clone();
    let text = |path: &[&str]| after.text_at(path).unwrap_or_default().to_owned();
    let status = text(&["status"]);
    match after.kind() {
        ResourceType::Task => {
            let handed_over =
                |task: &Resource| task.text_at(&["businessStatus", "text"]) == Some(HANDED_OVER);
            if handed_over(after) && !handed_over(before) {
                for name in [
                    "priority",
                    "performerType",
                    "businessStatus",
                    "lastModified",
                ] {
                    take(&mut made, after, name);
                }
            }
            if !open(after) && matches!(status.as_str(), "completed" | "cancelled") {
                let why = text(&["statusReason", "text"]);
                close(&mut made, status == "completed", &why, 0);
                take(&mut made, after, "lastModified");
            }
        }
        ResourceType::Communication => match status.as_str() {
            "on-hold" => hold(&mut made),
            "preparation" => {
                release(&mut made);
            }
            "stopped" => {
                let why = text(&["statusReason", "text"]);
                calls_off(&mut made, crate::engine::CALLED_OFF, &why);
            }
            // Who delivers says of what it found too late that it expired, too.
            "not-done" => {
                calls_off(&mut made, crate::engine::EXPIRED, TOO_LATE);
            }
            _ => return false,
        },
        ResourceType::Appointment if status == "cancelled" => {
            cancel(&mut made, &text(&["cancelationReason", "text"]));
        }
        _ => return false,
    }
    let changed = |resource: &Resource| {
        let mut resource = resource.clone();
        resource.strip_meta();
        resource.into_value()
    };
    changed(&made) == changed(after) && changed(before) != changed(after)
}

fn take(to: &mut Resource, from: &Resource, name: &str) {
    match from.get(name) {
        Some(value) => to.set(name, value.clone()),
        None => {
            to.remove(name);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_task_that_is_handed_over_stays_its_queues() {
        for types in [
            performer_types("coordinator", Some("ward-3")),
            // As somebody else may have written it.
            performer_types("coordinator", Some("ward-3"))
                .as_array()
                .map(|types| types.iter().rev().cloned().collect())
                .unwrap_or_default(),
        ] {
            let task = json!({"resourceType": "Task", "performerType": types});
            let mut task = Resource::from_value(task).unwrap();
            hand_over(&mut task, "clinician", "urgent", 0);
            let expected = performer_types("clinician", Some("ward-3"));
            assert_eq!(task.get("performerType"), Some(&expected));
        }
    }

    #[test]
    fn what_has_left_is_neither_held_nor_called_off() {
        // By e-mail, and by text message.
        let message = |status: &str, left: &str| {
            let mut message = resource(ResourceType::Communication, "c", json!({"status": status}));
            match left {
                "mail" => message.set("sent", json!("2026-11-30T10:00:00Z")),
                "text" => {
                    message.set(
                        "identifier",
                        json!([{"system": SMS_SYSTEM, "value": "SM1"}]),
                    );
                }
                _ => {}
            }
            message
        };
        let status = |message: &Resource| message.text_at(&["status"]).map(str::to_owned);
        for (before, left, held, off, late) in [
            ("preparation", "", "on-hold", "stopped", "expired"),
            ("in-progress", "", "on-hold", "stopped", "expired"),
            (
                "in-progress",
                "mail",
                "in-progress",
                "in-progress",
                NO_RECEIPT,
            ),
            (
                "in-progress",
                "text",
                "in-progress",
                "in-progress",
                NO_RECEIPT,
            ),
        ] {
            let mut one = message(before, left);
            hold(&mut one);
            assert_eq!(status(&one).as_deref(), Some(held), "{before} {left}");
            let mut one = message(before, left);
            let done = calls_off(&mut one, crate::engine::CALLED_OFF, "why");
            assert_eq!(status(&one).as_deref(), Some(off), "{before} {left}");
            assert_eq!(done, off == "stopped", "{before} {left}");
            // That its time is over can be said of what nobody has heard of; it may be there.
            let mut one = message(before, left);
            assert!(calls_off(&mut one, crate::engine::EXPIRED, "why"));
            assert_eq!(status(&one).as_deref(), Some("not-done"), "{before} {left}");
            let code = one.text_at(&["statusReason", "coding", "0", "code"]);
            assert_eq!(code, Some(late), "{before} {left}");
        }
    }
}
