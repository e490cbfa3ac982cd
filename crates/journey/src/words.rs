//! What waits, what happened and what is planned, in words for staff and in plain words for patients.

use crate::definition::{Definition, Step};
use crate::engine::{self, Context, Decision, Effect, Ids, Input, Outcome};
use crate::kinds::Plan;
use crate::request;
use crate::room::Why;
use crate::state::{Done, State, Token, TrailEntry, What};
use crate::time::{say_day, say_minute, say_time};
use crate::{MessageTrail, PlannedView, TrailView, WaitView, hands};
use fhir::ResourceType;
use trust::Role;
use trust::conventions::NO_RECEIPT;

/// Most things that are shown as planned.
const PLANNED_MAX: usize = 60;
/// Most inputs that the look ahead gives to the engine; twice the longest journey that can be read.
const AHEAD_MAX: usize = 400;

/// Why a message was not sent, from its code in `urn:cairn:not-done`.
pub(crate) fn not_done(code: &str) -> &'static str {
    match code {
        "consent" => "The patient's consent does not allow it",
        "preference" => "The patient does not want this channel used",
        "unwelcome" => "The patient does not want messages of this kind by this channel",
        "only-important" => "The patient wants nothing but what is important by this channel",
        "no-address" => "There is no address for this channel",
        "no-sign-in" => "There is no birth date to check a sign-in link with",
        "shared-number" => {
            "Somebody else has the telephone too, so no link that signs in goes there"
        }
        "unprintable" => "It could not be printed or spoken",
        "no-answer" => "Nobody answered the telephone",
        "call-refused" => "Whoever answered did not want the call",
        "question-open" => "Another question was open on the telephone",
        "no-replies" => "Replies by text message are not heard here",
        engine::CALLED_OFF => "It was not needed any more",
        "deceased" => "The patient has died",
        "expired" => "It was not delivered in time",
        NO_RECEIPT => "No receipt came in its time, so it may have arrived",
        "quiet-hours" => "The patient's quiet hours would not have ended in its time",
        "admitted" => "The patient was in hospital",
        "capped" => {
            "The patient had been sent as many messages as they may be, and there was no room in its time"
        }
        "retries-exhausted" => "All attempts failed",
        "returned" => "It was sent and came back",
        "unknown-partner" => "The partner is not known any more",
        "no-contract" => "There is no contract in force with the partner",
        "not-cleared" => "The partner is not cleared for what it would be told",
        "no-value" => "A value that would be sent is not there",
        "not-reached" => "The partner could not be reached",
        _ => "The channel refused it",
    }
}

/// What the patient is told about a step that is ahead. Empty if it is none of their concern.
pub(crate) fn plain(step: &Step) -> String {
    if let Some(plain) = &step.plain {
        return plain.clone();
    }
    step.kind.promise()
}

/// What waits at each place where the patient is. A watch whose time is over wakes nobody any more: what it still takes
/// is a reading of before that comes late.
pub(crate) fn waits(
    definition: &Definition,
    state: &State,
    instance: &str,
    ids: &dyn Ids,
    now_ms: u64,
) -> Vec<WaitView> {
    let places = state.tokens.iter();
    let places = places.filter_map(|token| wait(definition, state, token, instance, ids));
    // No time is up while it is held.
    let ends = state.paused.is_none();
    let places = places.map(|wait| WaitView {
        until_ms: wait.until_ms.filter(|_| ends),
        ..wait
    });
    let mut waits: Vec<WaitView> = held(state).into_iter().chain(places).collect();
    if state.running() {
        let watches = definition.steps.iter();
        let watches = watches.filter_map(|step| watch(definition, state, step));
        waits.extend(
            watches.filter(|watch| watch.until_ms.is_none_or(|until_ms| until_ms > now_ms)),
        );
    }
    waits
}

/// What a message is held for.
fn held_for(why: Why) -> &'static str {
    match why {
        Why::Quiet => "for quiet hours",
        Why::Capped => "because the patient has had as many messages as they may",
    }
}

/// What a place waits for besides, where its message may not go out yet.
fn unsent(definition: &Definition, state: &State, n: u32) -> String {
    let held = state.held.iter().filter(|held| held.n == n);
    let held = held.map(|held| {
        format!(
            "; its {} is held {} until {}",
            held.which.say(),
            held_for(held.why),
            say_minute(held.at_ms, &definition.zone)
        )
    });
    held.collect()
}

/// That somebody holds the journey, which is what all of it waits for.
fn held(state: &State) -> Option<WaitView> {
    let paused = state.paused.as_ref()?;
    let what = hands::paused_by(state).map_or_else(
        || "Held by hand; goes on when somebody lets it".to_owned(),
        |(by, why)| format!("Held by {by} ({why}); goes on when somebody lets it"),
    );
    Some(WaitView {
        step: String::new(),
        title: "Held".to_owned(),
        what,
        plain: String::new(),
        since_ms: paused.at_ms,
        until_ms: None,
        reference: None,
    })
}

fn wait(
    definition: &Definition,
    state: &State,
    token: &Token,
    instance: &str,
    ids: &dyn Ids,
) -> Option<WaitView> {
    let step = definition.step(&token.step)?;
    let waiting = step.kind.waiting(definition, state, token)?;
    let reference = step.kind.acts_on(token).map(|(kind, slot)| {
        let id = ids.id(&format!("{instance}/{}/{slot}", token.n));
        format!("{kind}/{id}")
    });
    Some(WaitView {
        step: step.id.clone(),
        title: step.title.clone(),
        what: waiting.what + &unsent(definition, state, token.n),
        plain: waiting.plain,
        since_ms: token.since_ms,
        until_ms: waiting.until_ms,
        reference,
    })
}

fn watch(definition: &Definition, state: &State, step: &Step) -> Option<WaitView> {
    let watching = step.kind.watching(definition, state, step)?;
    Some(WaitView {
        step: step.id.clone(),
        title: step.title.clone(),
        what: watching.what,
        plain: step.plain.clone().unwrap_or_default(),
        since_ms: state.started_ms,
        until_ms: watching.until_ms,
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
            let kind = definition.entry.kind();
            let by_other = request::is_key(&state.key) || crate::segments::is_key(&state.key);
            let kind = kind.filter(|_| !by_other);
            reference = kind.map(|kind| format!("{kind}/{}", state.key));
            let started = if request::is_key(&state.key) {
                "Started by request"
            } else {
                "Started"
            };
            format!(
                "{started}: {} (version {})",
                definition.title, definition.version
            )
        }
        What::Entered => step.and_then(|step| step.kind.entered(title))?,
        What::Left { label, .. } => match step {
            Some(step) => step.kind.left(title, label)?,
            None => left(title, label),
        },
        What::Sent { channel, which } => {
            format!("{} by {}: {title}", capital(&which.say()), channel.name())
        }
        What::Held {
            channel,
            which,
            until_ms,
            why,
        } => format!(
            "{} by {} held {} until {}: {title}",
            capital(&which.say()),
            channel.name(),
            held_for(*why),
            say_minute(*until_ms, &definition.zone)
        ),
        What::Undelivered {
            channel,
            which,
            code,
        } if code == engine::CALLED_OFF => format!(
            "{} by {} called off before it left: {title}",
            capital(&which.say()),
            channel.name()
        ),
        // Of a text message that has left, and of which nothing was heard, nobody knows whether it is there.
        What::Undelivered {
            channel: crate::Channel::Sms,
            which,
            code,
        } if code == engine::EXPIRED || code == NO_RECEIPT => format!(
            "{} by {}: no receipt came in its time: {title}",
            capital(&which.say()),
            crate::Channel::Sms.name()
        ),
        What::Undelivered {
            channel,
            which,
            code,
        } => format!(
            "{} by {} not delivered: {title}. {}",
            capital(&which.say()),
            channel.name(),
            not_done(code)
        ),
        What::Passed { which } => format!(
            "{} not sent, because its time had passed: {title}",
            capital(&which.say())
        ),
        What::Answered => {
            reference = resource_of(&entry.why).or(reference);
            format!("Answered: {title}")
        }
        What::LateAnswer { .. } => {
            reference = resource_of(&entry.why).or(reference);
            format!("Answered late: {title}")
        }
        What::Reply { .. } => {
            reference = resource_of(&entry.why).or(reference);
            format!("The patient replied with what is no answer: {title}")
        }
        What::HandedOver { role } => format!("Not done in time, handed over to a {role}: {title}"),
        What::FirstDone => {
            reference = resource_of(&entry.why).or(reference);
            format!("Done by the first of two: {title}")
        }
        What::NotCounted => {
            reference = resource_of(&entry.why).or(reference);
            format!("Not counted, because it takes two persons who are named: {title}")
        }
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
        What::Reached => {
            reference = resource_of(&entry.why).or(reference);
            format!("Goal reached: {title}")
        }
        What::Round { time, .. } => format!("Round {time}: {title}"),
        What::Drawn { experiment, arm } => format!(
            "Experiment “{}”: arm “{}”: {title}",
            spoken(experiment),
            spoken(arm)
        ),
        What::Called { partner, back } if *back => {
            format!("{partner} is asked to take back: {title}")
        }
        What::Called { partner, .. } => format!("{partner} is called: {title}"),
        What::Hand { act, reason, by } => {
            let done = match act {
                Done::Paused => "Held",
                Done::Resumed => "Goes on",
                Done::Skipped => "Skipped",
                Done::Retried => "Begun anew",
                Done::Jumped => "Sent on",
                Done::Undone => "Taken back",
            };
            let where_to = if title.is_empty() {
                String::new()
            } else {
                format!(" ({title})")
            };
            format!("{done} by {by}{where_to}: {reason}")
        }
        What::Moved {
            from,
            to,
            reason,
            by,
        } => format!("Moved from version {from} to version {to} by {by}: {reason}"),
        What::Ended { title, .. } => format!("Ended: {title}"),
    };
    Some(TrailView {
        at_ms: entry.at_ms,
        step: entry.step.clone(),
        what,
        why: why(&entry.why),
        reference,
        message: match &entry.what {
            What::Sent { channel, .. } => Some(MessageTrail::Sent(*channel)),
            What::Undelivered { channel, .. } => Some(MessageTrail::Undelivered(*channel)),
            _ => None,
        },
    })
}

/// That somebody left a step with this title by the way with this label.
pub(crate) fn left(title: &str, label: &str) -> String {
    // A title that asks has its own mark.
    if title.ends_with('?') {
        format!("{title} {}", capital(&spoken(label)))
    } else {
        format!("{title}: {}", spoken(label))
    }
}

fn resource_of(why: &str) -> Option<String> {
    let is_one = why.contains('/') && request::reason(why).is_none();
    is_one.then(|| why.to_owned())
}

fn why(cause: &str) -> String {
    if let Some(reason) = request::reason(cause) {
        return format!("it was asked for: {reason}");
    }
    match cause {
        "" => "as a consequence".to_owned(),
        "timer" => "time was up".to_owned(),
        "staff" => "a member of staff stepped in".to_owned(),
        crate::segments::CAUSE => "a segment was looked at".to_owned(),
        reference => match reference.split_once('/').map(|(kind, _)| kind) {
            Some("Observation") => "a measurement came in".to_owned(),
            Some("QuestionnaireResponse") => "the patient answered a form".to_owned(),
            Some("Task") => "a task was worked on".to_owned(),
            Some("Communication") => {
                "a message's delivery was reported, or the patient wrote back".to_owned()
            }
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

/// What starts a journey.
pub(crate) fn starts(definition: &Definition) -> String {
    let entry = &definition.entry;
    let segment = definition.begins_by();
    let segment = segment.map(|segment| format!("Coming into “{}”", segment.title));
    let event = entry.kind().map(|kind| match &entry.date {
        Some(_) if kind == ResourceType::Patient => "A date in the patient's life".to_owned(),
        Some(_) => format!("The date of {}", thing(kind)),
        None => capital(&thing(kind)),
    });
    let people = entry.request.as_ref().map(|request| {
        let of = |role: Role| request.by.contains(&role);
        match (
            of(Role::Clinician) || of(Role::Coordinator),
            of(Role::Client),
        ) {
            (true, true) => "staff or another system",
            (false, true) => "another system",
            _ => "staff",
        }
    });
    match (event.or(segment), people) {
        (Some(event), None) => format!("{event} starts the journey"),
        (Some(event), Some(people)) => {
            format!("{event} starts the journey, or {people} when asked to")
        }
        (None, people) => {
            let people = people.unwrap_or_default();
            format!("It starts when {people} start it")
        }
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
    planned_up_to(definition, state, instance, ids, now_ms, PLANNED_MAX)
}

/// The same, of so many things at most.
pub(crate) fn planned_up_to(
    definition: &Definition,
    state: &State,
    instance: &str,
    ids: &dyn Ids,
    now_ms: u64,
    most: usize,
) -> Vec<PlannedView> {
    let mut planned = Vec::new();
    let mut ahead = state.clone();
    let mut at_ms = now_ms;
    for token in &state.tokens {
        let Some(step) = definition.step(&token.step) else {
            continue;
        };
        if let Some((at_ms, plan)) = step.kind.arranged(definition, step, token)
            && at_ms > now_ms
        {
            planned.push(view(at_ms, &step.id, plan));
        }
    }
    let now = Context {
        now_ms,
        instance,
        ids,
        limited: false,
    };
    for communication in engine::awaited_messages(definition, &ahead, &now) {
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
            limited: false,
        };
        let Ok(decision) = engine::step(definition, &ahead, Input::Timer { read: 0 }, &context)
        else {
            break;
        };
        if !decision.changed {
            break;
        }
        let next = settled(definition, decision, &context);
        let fresh = next.trail.get(ahead.trail.len()..).unwrap_or_default();
        planned.extend(plans(definition, fresh));
        ahead = next;
        if planned.len() >= most {
            break;
        }
    }
    planned.sort_by_key(|item| item.at_ms);
    planned.truncate(most);
    planned
}

/// Where a decision leads, and what happens at once on the way there.
pub(crate) fn at_once(
    definition: &Definition,
    before: &State,
    decision: Decision,
    context: &Context<'_>,
) -> (State, Vec<PlannedView>) {
    let looks = decision.effects.iter().filter_map(|effect| match effect {
        Effect::Look { step, .. } => definition.step(step),
        _ => None,
    });
    let looks = looks.map(|step| {
        let what = format!("What the record says decides: {}", step.title);
        let plain = String::new();
        view(context.now_ms, &step.id, Plan { what, plain })
    });
    let looks: Vec<PlannedView> = looks.collect();
    let next = settled(definition, decision, context);
    let fresh = next.trail.get(before.trail.len()..).unwrap_or_default();
    let mut happens = plans(definition, fresh);
    happens.extend(looks);
    (next, happens)
}

/// Where a decision leads when all that it sends is delivered.
fn settled(definition: &Definition, mut decision: Decision, context: &Context<'_>) -> State {
    let mut effects = std::mem::take(&mut decision.effects);
    let mut next = decision.state;
    while let Some(effect) = effects.pop() {
        let Effect::Send { communication, .. } = effect else {
            continue;
        };
        let delivered = Input::Receipt {
            communication,
            outcome: Outcome::Delivered,
        };
        if let Ok(delivered) = engine::step(definition, &next, delivered, context) {
            next = delivered.state;
            effects.extend(delivered.effects);
        }
    }
    next
}

/// What is planned by entries that lie ahead. Where somebody is to act, a step that is left in the moment in which it
/// is entered has opened nothing for them: it was too late for that.
fn plans(definition: &Definition, entries: &[TrailEntry]) -> Vec<PlannedView> {
    let opens = |entry: &TrailEntry| {
        let step = definition.step(&entry.step);
        step.is_some_and(|step| step.kind.makes().is_some())
    };
    let too_late = |at: usize, entry: &TrailEntry| {
        let is_left = |left: &TrailEntry| match left.what {
            What::Left { since_ms, .. } => {
                left.step == entry.step && left.at_ms == entry.at_ms && since_ms == entry.at_ms
            }
            _ => false,
        };
        // Only what comes after it: the same step may have been left in the same moment before.
        opens(entry) && entries.iter().skip(at + 1).any(is_left)
    };
    let entries_that_open = entries
        .iter()
        .enumerate()
        .filter(|(at, entry)| !too_late(*at, entry));
    entries_that_open
        .filter_map(|(_, entry)| plan(definition, entry))
        .collect()
}

fn plan(definition: &Definition, entry: &TrailEntry) -> Option<PlannedView> {
    if let What::Ended { title, code, .. } = &entry.what {
        let plain = if code == "completed" || code == "time_over" {
            "Your follow-up ends.".to_owned()
        } else {
            String::new()
        };
        let what = format!("The journey ends: {title}");
        return Some(view(entry.at_ms, "", Plan { what, plain }));
    }
    let step = definition.step(&entry.step)?;
    let plan = step.kind.plan(step, &entry.what)?;
    Some(view(entry.at_ms, &step.id, plan))
}

fn view(at_ms: u64, step: &str, plan: Plan) -> PlannedView {
    PlannedView {
        at_ms,
        step: step.to_owned(),
        what: plan.what,
        plain: plan.plain,
    }
}
