//! What a change of consents would change, in words: who would see less or more, which journeys would stop, and
//! which messages would not go.

use fhir::{Resource, ResourceType};
use journey::InstanceView;
use maud::{Markup, html};
use serde_json::Value;
use trust::consent::Act;
use trust::conventions::INSTANCE_SYSTEM;
use trust::{Counts, Foreseen, Party, Permit, Purpose, Role};

use crate::context::{Ctx, query};
use crate::error::PageError;
use crate::layout::{self, State, role_words, thousands};
use crate::patient::words::named;

use super::words::{how_many, those_of};

/// Messages that are looked at; of more, it is said that there are more.
const MESSAGES_MAX: usize = 200;

/// What would change.
pub(super) struct Effect {
    foreseen: Foreseen,
    /// Running journeys that would stop (`true`) or go on again, and how.
    journeys: Vec<(InstanceView, bool)>,
    /// Titles of messages that wait and would not go.
    unsent: Vec<String>,
    /// Whether all messages that wait were looked at.
    all_messages: bool,
}

pub(super) async fn load(
    ctx: &Ctx,
    permit: &Permit,
    patient: &str,
    consent: &Resource,
) -> Result<Effect, PageError> {
    let all = ctx.app.web.journeys.of_patient(permit, patient).await?;
    let waiting = [
        ("patient", patient),
        ("status", "preparation,in-progress,on-hold"),
    ];
    let waiting = query(ResourceType::Communication, &waiting, MESSAGES_MAX)?;
    let page = ctx.vault().search(permit, &waiting, None).await?;
    let all_messages = page.next.is_none();
    let messages: Vec<Resource> = page.rows.into_iter().map(|row| row.resource).collect();
    let mut acts: Vec<Act> = all.iter().map(|journey| journey.act.clone()).collect();
    // A message whose journey isn't known here may be about anything.
    let other = acts.len();
    acts.push(Act::any(Purpose::Treatment));
    let foreseen = ctx.app.web.trust.what_if(permit, consent, &acts).await?;
    let unsent = messages
        .iter()
        .filter(|message| {
            // What a mail server has already goes whatever the consent says by now.
            if message.get("sent").is_some() {
                return false;
            }
            let instance = instance_of(message);
            let of_journey = all
                .iter()
                .position(|journey| Some(&*journey.id) == instance);
            foreseen.acts.get(of_journey.unwrap_or(other)) == Some(&(true, false))
        })
        .map(|message| {
            let title = message.text_at(&["topic", "text"]);
            title.unwrap_or("A message").to_owned()
        })
        .collect();
    let journeys = all
        .into_iter()
        .zip(&foreseen.acts)
        .filter(|(journey, (now, then))| journey.ended.is_none() && now != then)
        .map(|(journey, (now, _))| (journey, *now))
        .collect();
    Ok(Effect {
        foreseen,
        journeys,
        unsent,
        all_messages,
    })
}

fn instance_of(message: &Resource) -> Option<&str> {
    let identifiers = message.get("identifier").and_then(Value::as_array)?;
    let mut of_journey = identifiers
        .iter()
        .filter(|one| one["system"] == INSTANCE_SYSTEM);
    of_journey.next()?["value"].as_str()
}

fn counted(counts: &Counts) -> String {
    let words: Vec<String> = counts
        .iter()
        .map(|(kind, count)| how_many(*kind, *count))
        .collect();
    words.join(", ")
}

/// `others`: whether some are told of by name.
fn who(party: &Party, others: bool) -> Markup {
    html! {
        @if party.names.is_empty() { span class="strong" { (those_of(party.role)) } @if others { " that are not known by name" } }
        @else {
            span class="strong" { (party.names.join(", ")) }
            @if party.names.len() == 1 || party.role == Role::Client { " (" (role_words(party.role)) ")" }
        }
    }
}

fn party(one: &Party, others: bool) -> Markup {
    html! {
        li {
            (who(one, others))
            @if one.effects.is_empty() { ": nothing would change." }
            @else {
                ul {
                    @for effect in &one.effects {
                        @let purposes: Vec<&str> = effect.purposes.iter().copied().map(named).collect();
                        @if !effect.lost.is_empty() { li { "would no longer see " (counted(&effect.lost)) span class="quiet" { " · for " (purposes.join(", ")) } } }
                        @if !effect.gained.is_empty() { li { "would newly see " (counted(&effect.gained)) span class="quiet" { " · for " (purposes.join(", ")) } } }
                    }
                }
            }
        }
    }
}

/// The words.
pub(super) fn draw(ctx: &Ctx, effect: &Effect) -> Markup {
    let foreseen = &effect.foreseen;
    let nothing =
        foreseen.parties.is_empty() && effect.journeys.is_empty() && effect.unsent.is_empty();
    html! {
        section class="stack" id="effect" aria-label="What would change" {
            @if let Some(later_ms) = foreseen.later_ms { p class="note" { "This is how it would be from " (ctx.times.exact(later_ms)) " on. Until then nothing changes." } }
            @if nothing && foreseen.complete { p { (layout::state(State::Done, "Nothing")) " would change of what anybody sees, and no journey would stop." } }
            @if !foreseen.parties.is_empty() {
                h2 { "Who would see another way" }
                @let others = foreseen.parties.iter().any(|one| !one.names.is_empty());
                ul class="stack" { @for one in &foreseen.parties { (party(one, others)) } }
            }
            @if !effect.journeys.is_empty() {
                h2 { "Journeys" }
                ul {
                    @for (journey, stops) in &effect.journeys {
                        li {
                            span class="strong" { (journey.title) }
                            @if *stops && journey.ends_without_consent { " would stop." }
                            @else if *stops { " would go on, but send no messages." }
                            @else { " could send messages again." }
                        }
                    }
                }
            }
            @if !effect.unsent.is_empty() {
                h2 { "Messages that wait to be sent" }
                p { (layout::count_of(effect.unsent.len(), "message")) " would not go:" }
                ul { @for title in &effect.unsent { li { (title) } } }
            }
            @if !foreseen.complete {
                p class="note" { "This record is too large to count all of it. Counted are the " (thousands(foreseen.looked_at as u64)) " entries that were looked at; there may be more of each, and of others." }
            }
            @if !effect.all_messages { p class="note" { "More than " (MESSAGES_MAX) " messages wait; only these were looked at." } }
            p class="quiet small" {
                @if ctx.role() == Role::Patient { "Emergencies are not counted." }
                @else { "Counted is what you may see yourself. Emergencies and scopes of tokens are not counted." }
            }
        }
    }
}
