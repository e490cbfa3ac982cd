//! The form in which a change of consents is drafted, and what it is read into.

use fhir::{Resource, ResourceType, human};
use maud::{Markup, html};
use trust::consent::Draft;
use trust::identity::KnownAgent;
use trust::{Purpose, Role};

use crate::context::{Ctx, Fields, query};
use crate::error::PageError;
use crate::layout::csrf;
use crate::patient::words::named;

use super::words::{KINDS, LABELS};

/// Purposes that a form offers.
const PURPOSES: [Purpose; 5] = [
    Purpose::Treatment,
    Purpose::CareManagement,
    Purpose::Payment,
    Purpose::Operations,
    Purpose::Research,
];
/// Types of which entries are offered, newest first.
pub(super) const ENTRIES: [ResourceType; 8] = [
    ResourceType::Condition,
    ResourceType::MedicationRequest,
    ResourceType::Observation,
    ResourceType::DocumentReference,
    ResourceType::Procedure,
    ResourceType::Immunization,
    ResourceType::Claim,
    ResourceType::Encounter,
];
/// Entries of each type.
const ENTRIES_MAX: usize = 10;

/// What can be chosen in a form.
pub(super) struct Choices {
    /// `Type/id` and words of whom a consent can name.
    pub(super) actors: Vec<(String, String)>,
    /// The same of entries.
    pub(super) entries: Vec<(String, String)>,
}

/// Whom a consent can name, each once, with the names of those who are known as it.
pub(super) fn actors(known: &[KnownAgent]) -> Vec<(String, String)> {
    let mut actors: Vec<(String, String)> = Vec::new();
    for agent in known {
        for reference in &agent.known_as {
            match actors.iter_mut().find(|(other, _)| other == reference) {
                Some((_, names)) => {
                    names.push_str(", ");
                    names.push_str(&agent.name);
                }
                None => actors.push((reference.clone(), agent.name.clone())),
            }
        }
    }
    actors.sort_by(|left, right| left.1.cmp(&right.1));
    actors
}

impl Choices {
    pub(super) async fn load(
        ctx: &Ctx,
        permit: &trust::Permit,
        patient: &str,
        known: &[KnownAgent],
    ) -> Result<Self, PageError> {
        let mut queries = Vec::new();
        for kind in ENTRIES {
            if permit.allows(trust::Action::Search, kind) {
                queries.push(query(kind, &[("patient", patient)], ENTRIES_MAX)?);
            }
        }
        let pages = ctx.vault().search_many(permit, &queries).await?;
        let rows = pages.into_iter().flat_map(|page| page.rows);
        Ok(Self {
            actors: actors(known),
            entries: rows
                .filter_map(|row| {
                    let reference = row.resource.reference()?;
                    let reference = format!("{}/{}", reference.kind, reference.id);
                    Some((reference, entry_words(&row.resource)))
                })
                .collect(),
        })
    }
}

fn entry_words(resource: &Resource) -> String {
    let of = [
        "code",
        "medicationCodeableConcept",
        "vaccineCode",
        "type",
        "class",
    ];
    let words = of
        .iter()
        .filter_map(|name| resource.get(name))
        .map(|value| match value {
            serde_json::Value::Array(items) => {
                items.first().map_or_else(String::new, human::codeable)
            }
            other => human::codeable(other),
        })
        .find(|words| !words.is_empty());
    let times = [
        "effectiveDateTime",
        "recordedDate",
        "authoredOn",
        "date",
        "created",
        "occurrenceDateTime",
        "performedDateTime",
    ];
    let start = resource.text_at(&["period", "start"]);
    let day = times
        .iter()
        .find_map(|name| resource.text_at(&[*name]))
        .or(start)
        .map(|text| text.get(..10).unwrap_or(text));
    let kind = super::words::how_many(resource.kind(), 1).replacen("1 ", "", 1);
    let mut words = format!(
        "{kind}: {}",
        words.unwrap_or_else(|| "without a name".to_owned())
    );
    if let Some(day) = day {
        words.push_str(", ");
        words.push_str(&crate::time::day(day));
    }
    words
}

fn boxes(name: &str, legend: &str, hint: &str, options: &[(String, String)]) -> Markup {
    html! {
        @if !options.is_empty() {
            fieldset {
                legend class="strong" { (legend) }
                span class="hint" { (hint) }
                @for (value, words) in options {
                    label class="choice" { input type="checkbox" name=(name) value=(value); span { (words) } }
                }
            }
        }
    }
}

/// The form. `action` is where it is sent.
pub(super) fn form(ctx: &Ctx, action: &str, choices: &Choices) -> Markup {
    let own = |(value, words): &(&str, &str)| ((*value).to_owned(), (*words).to_owned());
    let kinds: Vec<_> = KINDS
        .iter()
        .map(|(name, words, _)| own(&(name, words)))
        .collect();
    let labels: Vec<_> = LABELS.iter().map(own).collect();
    let set = ctx.app.web.trust.policy_set();
    let purposes: Vec<_> = (PURPOSES.into_iter().chain(set.purposes().own()))
        .map(|purpose| own(&(purpose.code(), named(purpose))))
        .collect();
    html! {
        form class="stack" method="post" action=(action) {
            (csrf(ctx))
            input type="hidden" name="do" value="new";
            fieldset {
                legend class="strong" { "What is said" }
                label class="choice" { input type="radio" name="type" value="deny" required checked; span { "They may not see it" } }
                label class="choice" { input type="radio" name="type" value="permit" required; span { "They may see it" } }
            }
            details {
                summary { "Who" }
                (boxes("actor", "Who", "Nobody chosen means everybody.", &choices.actors))
                @if ctx.role() != Role::Patient {
                    label { "Somebody else" span class="hint" { "As Type/id, e.g. Organization/x" } input type="text" name="actor" autocomplete="off"; }
                }
                (boxes("except", "But not", "Whom a “may not” leaves out.", &choices.actors))
            }
            details {
                summary { "What" }
                (boxes("kind", "Kinds of entries", "Nothing chosen means all.", &kinds))
                (boxes("label", "What entries are about", "Found by their codes and labels. Nothing chosen means whatever they are about.", &labels))
                @if !choices.entries.is_empty() {
                    label { "One entry alone"
                        select name="entry" { option value="" { "No, as chosen above" } @for (value, words) in &choices.entries { option value=(value) { (words) } } }
                    }
                    label class="choice" { input type="checkbox" name="related" value="yes"; span { "And what belongs to it" span class="hint" { "E.g. of a visit: its measurements, prescriptions and bills" } } }
                }
            }
            details {
                summary { "What for, and when" }
                (boxes("purpose", "What for", "Nothing chosen means whatever it is for.", &purposes))
                div class="inline-fields" {
                    label { "From" input type="date" name="from"; }
                    label { "Until" input type="date" name="until"; }
                }
            }
            @if ctx.role() == Role::Clinician {
                label class="choice" { input type="checkbox" name="agreed" value="yes"; span { (ctx.app.web.organisation) " agrees to keep to it" span class="hint" { "It binds clinicians, too, but for emergencies." } } }
            }
            button class="primary" type="submit" { "Show what would change" }
        }
    }
}

/// The draft in a form. `known` is whom a consent can name: patients name nobody else.
pub(super) fn draft(ctx: &Ctx, fields: &Fields, known: &[KnownAgent]) -> Result<Draft, PageError> {
    let invalid = |words: &str| PageError::Invalid(words.to_owned());
    let is_patient = ctx.role() == Role::Patient;
    let given = |name: &'static str| {
        let values = fields.all(name).filter(|value| !value.is_empty());
        values.map(str::to_owned).collect::<Vec<_>>()
    };
    let permits = match fields.get("type") {
        Some("permit") => true,
        Some("deny") => false,
        _ => return Err(invalid("Choose whether they may or may not.")),
    };
    let (actors, except) = (given("actor"), given("except"));
    let known = self::actors(known);
    let is_known = |one: &String| known.iter().any(|(reference, _)| reference == one);
    if is_patient && !actors.iter().chain(&except).all(is_known) {
        return Err(invalid("Choose from those on the list."));
    }
    let mut classes = Vec::new();
    for name in fields.all("kind") {
        let found = KINDS.iter().find(|(known, ..)| *known == name);
        let (_, _, kinds) = found.ok_or_else(|| invalid("There is no such kind of entries."))?;
        classes.extend_from_slice(kinds);
    }
    let labels = given("label");
    if !labels
        .iter()
        .all(|label| LABELS.iter().any(|(known, _)| known == label))
    {
        return Err(invalid("There is no such label."));
    }
    let set = ctx.app.web.trust.policy_set();
    let mut purposes = Vec::new();
    for code in fields.all("purpose") {
        let found = (set.purposes().parse(code))
            .filter(|purpose| purpose.own().is_some() || PURPOSES.contains(purpose));
        purposes.push(found.ok_or_else(|| invalid("There is no such purpose."))?);
    }
    let day = |name: &str| fields.get(name).map(str::to_owned);
    let agrees = fields.get("agreed") == Some("yes");
    if agrees && ctx.role() != Role::Clinician {
        return Err(invalid(
            "The organisation's agreement is for clinicians to give.",
        ));
    }
    Ok(Draft {
        permits,
        actors,
        except,
        classes,
        labels,
        related: fields.get("related") == Some("yes"),
        instance: day("entry"),
        purposes,
        from: day("from"),
        until: day("until"),
        agreed_by: agrees.then(|| ctx.app.web.organisation.clone()),
        by_patient: is_patient,
    })
}
