//! What waits, what happened and what is planned, in words for staff and in plain words for patients.

use crate::definition::{Definition, Step, StepKind, Trigger};
use crate::engine::{self, Context, Effect, Ids, Input, Outcome};
use crate::state::{Stand, State, Token, TrailEntry, What, Which};
use crate::time::{say_day, say_duration, say_time};
use crate::{PlannedView, TrailView, WaitView, units};
use fhir::ResourceType;

/// Most things that are shown as planned.
const PLANNED_MAX: usize = 60;
/// Most inputs that the look ahead gives to the engine; twice the longest journey that can be read.
const AHEAD_MAX: usize = 400;

/// Why a message was not sent, from its code in `urn:cairn:not-done`.
pub(crate) fn not_done(code: &str) -> &'static str {
    match code {
        "consent" => "The patient's consent does not allow it",
        "preference" => "The patient does not want this channel used",
        "no-address" => "There is no address for this channel",
        "no-sign-in" => "There is no birth date to check a sign-in link with",
        engine::CALLED_OFF => "It was not needed any more",
        "deceased" => "The patient has died",
        "expired" => "It was not delivered in time",
        "retries-exhausted" => "All attempts failed",
        _ => "The channel refused it",
    }
}

/// What the patient is told about a step that is ahead. Empty if it is none of their concern.
pub(crate) fn plain(step: &Step) -> String {
    if let Some(plain) = &step.plain {
        return plain.clone();
    }
    match &step.kind {
        StepKind::Send(send) => format!("We will send you a message: {}", send.message.title),
        StepKind::Ask(ask) => format!("We will ask you some questions: {}", ask.invitation.title),
        StepKind::Book(book) => format!("We will offer you a visit: {}", book.title),
        _ => String::new(),
    }
}

/// What waits at each place where the patient is.
pub(crate) fn waits(
    definition: &Definition,
    state: &State,
    instance: &str,
    ids: &dyn Ids,
) -> Vec<WaitView> {
    let mut waits: Vec<WaitView> = state
        .tokens
        .iter()
        .filter_map(|token| wait(definition, state, token, instance, ids))
        .collect();
    if state.running() {
        waits.extend(
            definition
                .steps
                .iter()
                .filter_map(|step| watch(definition, state, step)),
        );
    }
    waits
}

fn wait(
    definition: &Definition,
    state: &State,
    token: &Token,
    instance: &str,
    ids: &dyn Ids,
) -> Option<WaitView> {
    let step = definition.step(&token.step)?;
    let zone = &definition.zone;
    let id = |slot: &str| ids.id(&format!("{instance}/{}/{slot}", token.n));
    let until_ms;
    let mut reference = None;
    let mut plain = String::new();
    let what = match (&step.kind, &token.stand) {
        (
            StepKind::Send(send),
            Stand::Sending {
                channel,
                until_ms: until,
            },
        ) => {
            until_ms = Some(*until);
            let channel = send
                .message
                .channels
                .get(usize::from(*channel))
                .map_or("", |channel| channel.name());
            format!("Waits until the message is delivered by {channel}")
        }
        (StepKind::Ask(ask), Stand::Asking { reminded_by, .. }) => {
            let until = token.since_ms + ask.give_up_after_ms;
            until_ms = Some(until);
            reference = Some(format!("Task/{}", id("task")));
            plain = format!("Please answer a few questions: {}", ask.invitation.title);
            let reminder = match (ask.remind_after_ms, reminded_by) {
                (Some(after_ms), None) => {
                    format!("; a reminder goes out after {}", say_duration(after_ms))
                }
                (Some(_), Some(_)) => "; the patient has been reminded".to_owned(),
                (None, _) => String::new(),
            };
            format!("Waits for the patient's answer{reminder}")
        }
        (StepKind::Wait(wait), Stand::Waiting) => {
            let end = engine::wait_end(definition, state, token, step);
            until_ms = end.map(|(_, due_ms)| due_ms);
            let events: Vec<String> = wait
                .alternatives
                .iter()
                .filter_map(|alternative| match &alternative.trigger {
                    Trigger::Event(condition) => definition
                        .conditions
                        .get(*condition)
                        .map(|condition| thing(condition.kind)),
                    _ => None,
                })
                .collect();
            match (events.is_empty(), until_ms) {
                (true, Some(until)) => format!(
                    "Waits until {}, {}",
                    say_day(until, zone),
                    say_time(until, zone)
                ),
                (false, Some(until)) => format!(
                    "Waits for {}, until {} at the latest",
                    events.join(" or "),
                    say_day(until, zone)
                ),
                (_, None) => format!("Waits for {}", events.join(" or ")),
            }
        }
        (StepKind::Task(task), Stand::Working { handed_over }) => {
            reference = Some(format!("Task/{}", id("task")));
            until_ms = (!handed_over).then_some(token.since_ms + task.due_ms);
            if *handed_over {
                let role = match &task.overdue {
                    Some(crate::definition::Overdue::HandOver { role, .. }) => role.as_str(),
                    _ => task.role.as_str(),
                };
                format!(
                    "Waits for a {role}: {} (was overdue, handed over)",
                    task.title
                )
            } else {
                format!("Waits for a {}: {}", task.role, task.title)
            }
        }
        (StepKind::Book(book), Stand::Booking { proposed, booked }) => {
            reference = Some(format!("Appointment/{}", id("visit")));
            match booked {
                Some(slot) => {
                    until_ms = Some(slot.start_ms);
                    plain = format!(
                        "Your visit: {}, {} at {}",
                        book.title,
                        say_day(slot.start_ms, zone),
                        say_time(slot.start_ms, zone)
                    );
                    format!(
                        "Visit booked for {}, {}",
                        say_day(slot.start_ms, zone),
                        say_time(slot.start_ms, zone)
                    )
                }
                None => {
                    until_ms = Some(engine::moment(definition, state, &book.book_by));
                    plain = format!("Please book your visit: {}", book.title);
                    format!(
                        "Waits for the visit to be booked (proposed for {})",
                        say_day(proposed.start_ms, zone)
                    )
                }
            }
        }
        // What `parallel` waits for stands there itself, branch by branch.
        _ => return None,
    };
    Some(WaitView {
        step: step.id.clone(),
        title: step.title.clone(),
        what,
        plain,
        since_ms: token.since_ms,
        until_ms,
        reference,
    })
}

fn watch(definition: &Definition, state: &State, step: &Step) -> Option<WaitView> {
    let StepKind::Observe(rule) = &step.kind else {
        return None;
    };
    let until_ms = rule
        .until
        .as_ref()
        .map(|until| engine::moment(definition, state, until));
    let name = units::loinc_name(&rule.code)
        .map_or_else(|| format!("LOINC {}", rule.code), str::to_lowercase);
    let verb = if rule.falls { "falls" } else { "rises" };
    let what = format!(
        "Watches whether {name} {verb} by more than {} {} in {}",
        rule.more_than,
        rule.unit,
        say_duration(rule.within_ms)
    );
    Some(WaitView {
        step: step.id.clone(),
        title: step.title.clone(),
        what,
        plain: step.plain.clone().unwrap_or_default(),
        since_ms: state.started_ms,
        until_ms,
        reference: None,
    })
}

/// A trail entry in words; `None` for what the next entry says better.
pub(crate) fn trail(
    definition: &Definition,
    state: &State,
    entry: &TrailEntry,
) -> Option<TrailView> {
    let step = definition.step(&entry.step);
    let title = step.map_or("", |step| step.title.as_str());
    let mut reference = entry.reference.clone();
    let what = match &entry.what {
        What::Started => {
            reference = Some(format!("{}/{}", definition.entry.event, state.key));
            format!("Started: {} (version {})", definition.title, state.version)
        }
        What::Entered => match step.map(|step| &step.kind) {
            Some(StepKind::Ask(_)) => format!("Form opened: {title}"),
            Some(StepKind::Task(task)) => format!("Task for a {}: {}", task.role, task.title),
            Some(StepKind::Book(_)) => format!("Visit proposed: {title}"),
            Some(StepKind::Wait(_)) => format!("Waiting: {title}"),
            _ => return None,
        },
        What::Left { label, .. } => match step.map(|step| &step.kind) {
            // The answer and the sending have entries of their own.
            Some(StepKind::Ask(_)) if label == "answered" => return None,
            Some(StepKind::Send(_)) if label == "delivered" => format!("Delivered: {title}"),
            Some(StepKind::Wait(_) | StepKind::Parallel { .. }) => return None,
            // One case and a title that asks for it: what is otherwise is no.
            Some(StepKind::Branch(branch))
                if label == "otherwise" && branch.cases.len() == 1 && title.ends_with('?') =>
            {
                format!("{title} No")
            }
            Some(StepKind::Branch(_)) if label == "otherwise" => {
                format!("{title}: none of the cases")
            }
            // A title that asks has its own mark.
            _ if title.ends_with('?') => format!("{title} {}", capital(&spoken(label))),
            _ => format!("{title}: {}", spoken(label)),
        },
        What::Sent { channel, which } => format!(
            "{} by {}: {title}",
            capital(which_word(*which)),
            channel.name()
        ),
        What::Undelivered {
            channel,
            which,
            code,
        } if code == engine::CALLED_OFF => format!(
            "{} by {} called off before it left: {title}",
            capital(which_word(*which)),
            channel.name()
        ),
        What::Undelivered {
            channel,
            which,
            code,
        } => format!(
            "{} by {} not delivered: {title}. {}",
            capital(which_word(*which)),
            channel.name(),
            not_done(code)
        ),
        What::Answered => {
            reference = resource_of(&entry.why).or(reference);
            format!("Answered: {title}")
        }
        What::LateAnswer { .. } => {
            reference = resource_of(&entry.why).or(reference);
            format!("Answered late: {title}")
        }
        What::HandedOver { role } => format!("Overdue, handed over to a {role}: {title}"),
        What::Booked { start_ms } => format!(
            "Visit booked for {}, {}: {title}",
            say_day(*start_ms, &definition.zone),
            say_time(*start_ms, &definition.zone)
        ),
        What::Fired { .. } => {
            reference = resource_of(&entry.why).or(reference);
            format!("Rule fired: {title}")
        }
        What::AnchorMoved { anchor } => {
            format!(
                "The time of the {} was corrected; what depends on it moved along",
                spoken(anchor)
            )
        }
        What::Unclear { label } => {
            format!(
                "{title}: whether it is “{}” could not be told, so it was taken as no",
                spoken(label)
            )
        }
        What::Ended { title, .. } => format!("Ended: {title}"),
    };
    Some(TrailView {
        at_ms: entry.at_ms,
        step: entry.step.clone(),
        what,
        why: why(&entry.why),
        reference,
    })
}

fn resource_of(why: &str) -> Option<String> {
    why.contains('/').then(|| why.to_owned())
}

fn why(cause: &str) -> String {
    match cause {
        "" => "as a consequence".to_owned(),
        "timer" => "time was up".to_owned(),
        "staff" => "a member of staff stepped in".to_owned(),
        reference => match reference.split_once('/').map(|(kind, _)| kind) {
            Some("Observation") => "a measurement came in".to_owned(),
            Some("QuestionnaireResponse") => "the patient answered a form".to_owned(),
            Some("Task") => "a task was worked on".to_owned(),
            Some("Communication") => "a message's delivery was reported".to_owned(),
            Some("Appointment") => "a visit changed".to_owned(),
            Some("Encounter") => "a stay or visit was recorded".to_owned(),
            Some("Consent") => "the patient's consent changed".to_owned(),
            Some("Patient") => "the patient's details changed".to_owned(),
            Some(kind) => match ResourceType::parse(kind) {
                Some(kind) => format!("{} was recorded", thing(kind)),
                None => "something was recorded".to_owned(),
            },
            None => reference.to_owned(),
        },
    }
}

/// A resource type in words, as somebody waits for one.
pub(crate) fn thing(kind: ResourceType) -> String {
    match kind {
        ResourceType::Observation => "a measurement".to_owned(),
        ResourceType::Encounter => "a stay or a visit".to_owned(),
        ResourceType::QuestionnaireResponse => "an answered form".to_owned(),
        ResourceType::Communication => "a message".to_owned(),
        ResourceType::Appointment => "an appointment".to_owned(),
        ResourceType::Patient => "a change of the patient's details".to_owned(),
        ResourceType::MedicationRequest => "a prescription".to_owned(),
        _ => {
            let words = kind.words();
            let article = if words.starts_with(['a', 'e', 'i', 'o']) {
                "an"
            } else {
                "a"
            };
            format!("{article} {words}")
        }
    }
}

/// A name from the file, as it is spoken: `not_reached` as `not reached`.
fn spoken(name: &str) -> String {
    name.replace('_', " ")
}

fn which_word(which: Which) -> &'static str {
    match which {
        Which::Message => "message",
        Which::Invitation => "invitation",
        Which::Reminder => "reminder",
    }
}

pub(crate) fn capital(word: &str) -> String {
    let mut characters = word.chars();
    characters
        .next()
        .map(|first| first.to_uppercase().chain(characters).collect())
        .unwrap_or_default()
}

/// What comes if nobody does anything: the production engine run ahead on a copy of the state.
/// Messages are taken to be delivered, forms not to be answered, tasks not to be done.
pub(crate) fn planned(
    definition: &Definition,
    state: &State,
    instance: &str,
    ids: &dyn Ids,
    now_ms: u64,
) -> Vec<PlannedView> {
    let mut planned = Vec::new();
    let mut ahead = state.clone();
    let mut at_ms = now_ms;
    for token in &state.tokens {
        let (
            Some(step),
            Stand::Booking {
                booked: Some(slot), ..
            },
        ) = (definition.step(&token.step), &token.stand)
        else {
            continue;
        };
        if slot.start_ms > now_ms {
            let plain = format!(
                "Your visit, {} at {}",
                say_day(slot.start_ms, &definition.zone),
                say_time(slot.start_ms, &definition.zone)
            );
            planned.push(PlannedView {
                at_ms: slot.start_ms,
                step: step.id.clone(),
                what: format!("Visit: {}", step.title),
                plain,
            });
        }
    }
    let now = Context {
        now_ms,
        instance,
        ids,
    };
    for communication in engine::awaited_messages(&ahead, &now) {
        if let Ok(delivered) = engine::step(
            definition,
            &ahead,
            Input::Receipt {
                communication,
                outcome: Outcome::Delivered,
            },
            &now,
        ) {
            ahead = delivered.state;
        }
    }
    for _ in 0..AHEAD_MAX {
        let Some(due_ms) = engine::timers(definition, &ahead).into_values().min() else {
            break;
        };
        at_ms = at_ms.max(due_ms);
        let context = Context {
            now_ms: at_ms,
            instance,
            ids,
        };
        let Ok(mut decision) = engine::step(definition, &ahead, Input::Timer { read: 0 }, &context)
        else {
            break;
        };
        if !decision.changed {
            break;
        }
        let mut effects = std::mem::take(&mut decision.effects);
        let mut next = decision.state;
        while let Some(effect) = effects.pop() {
            let Effect::Send { communication, .. } = effect else {
                continue;
            };
            if let Ok(delivered) = engine::step(
                definition,
                &next,
                Input::Receipt {
                    communication,
                    outcome: Outcome::Delivered,
                },
                &context,
            ) {
                next = delivered.state;
                effects.extend(delivered.effects);
            }
        }
        for entry in next.trail.iter().skip(ahead.trail.len()) {
            planned.extend(plan(definition, entry));
        }
        ahead = next;
        if planned.len() >= PLANNED_MAX {
            break;
        }
    }
    planned.sort_by_key(|item| item.at_ms);
    planned.truncate(PLANNED_MAX);
    planned
}

fn plan(definition: &Definition, entry: &TrailEntry) -> Option<PlannedView> {
    let view = |step: &str, what: String, plain: String| {
        Some(PlannedView {
            at_ms: entry.at_ms,
            step: step.to_owned(),
            what,
            plain,
        })
    };
    if let What::Ended { title, code, .. } = &entry.what {
        let plain = if code == "completed" || code == "time_over" {
            "Your follow-up ends.".to_owned()
        } else {
            String::new()
        };
        return view("", format!("The journey ends: {title}"), plain);
    }
    let step = definition.step(&entry.step)?;
    match (&entry.what, &step.kind) {
        (What::Entered, StepKind::Send(_)) => {
            view(&step.id, format!("Message: {}", step.title), plain(step))
        }
        (What::Entered, StepKind::Ask(_)) => {
            view(&step.id, format!("Form: {}", step.title), plain(step))
        }
        (What::Entered, StepKind::Book(_)) => view(
            &step.id,
            format!("Visit proposed: {}", step.title),
            plain(step),
        ),
        (What::Entered, StepKind::Task(task)) => view(
            &step.id,
            format!("Task for a {}: {}", task.role, task.title),
            step.plain.clone().unwrap_or_default(),
        ),
        (
            What::Sent {
                which: Which::Reminder,
                ..
            },
            StepKind::Ask(ask),
        ) => view(
            &step.id,
            format!("Reminder if there is no answer: {}", step.title),
            format!(
                "We will remind you if you have not answered: {}",
                ask.invitation.title
            ),
        ),
        (What::Left { label, .. }, StepKind::Ask(_)) if label == "no answer" => view(
            &step.id,
            format!("Given up on if there is no answer: {}", step.title),
            String::new(),
        ),
        (What::Left { label, .. }, StepKind::Book(_)) if label == "not booked" => view(
            &step.id,
            format!("Given up on if not booked: {}", step.title),
            "Please book your visit before this day.".to_owned(),
        ),
        (What::HandedOver { role }, StepKind::Task(task)) => view(
            &step.id,
            format!("Handed over to a {role} if not done: {}", task.title),
            String::new(),
        ),
        _ => None,
    }
}
