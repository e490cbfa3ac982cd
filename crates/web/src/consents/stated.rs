//! What staff state when they widen what a patient has said: that the patient asked, and how. It stands in a
//! `Provenance` of the consent's version; the audit has how, and not the words, which may tell of the patient.

use std::collections::HashMap;

use fhir::{Reference, Resource, ResourceType, date};
use maud::{Markup, html};
use serde_json::{Value, json};

use crate::context::{Ctx, Fields};
use crate::error::PageError;

/// Ways to ask: as a form has it, in words, and for the audit.
const WAYS: [(&str, &str, &str); 4] = [
    ("in-person", "In person", "the patient asked in person"),
    (
        "telephone",
        "By telephone",
        "the patient asked by telephone",
    ),
    ("writing", "In writing", "the patient asked in writing"),
    (
        "proxy",
        "Through who may act for the patient",
        "who acts for the patient asked",
    ),
];
/// Characters of what is stated.
const WORDS_MIN: usize = 10;
const WORDS_MAX: usize = 500;

/// The fields of the form.
pub(super) fn fields() -> Markup {
    html! {
        fieldset class="stack" {
            legend class="strong" { "The patient asked for this" }
            label { "How"
                select name="asked" required {
                    option value="" { "Choose" }
                    @for (value, words, _) in WAYS { option value=(value) { (words) } }
                }
            }
            label { "When, and what was said" span class="hint" { "10 to 500 characters. It is kept with the consent, with your name." }
                textarea name="said" required minlength="10" maxlength="500" autocomplete="off" {} }
        }
    }
}

/// System of the accounts that state something here.
const AGENT: &str = "urn:cairn:agent";

/// What was stated of a consent.
pub(super) struct Told {
    /// How the patient asked, and what was said.
    pub(super) words: String,
    /// Who stated it.
    pub(super) name: String,
    /// When, FHIR's `instant`.
    pub(super) recorded: String,
}

/// What the id of a statement about a version of a consent is derived from. Ids are derived with a key, so nobody
/// else makes a `Provenance` that is shown as one.
pub(super) fn name_of(consent: &str, version: u32) -> String {
    format!("stated of consent {consent} version {version}")
}

/// What staff stated of consents, by the consent's id: of these `Provenance`s, those that this page made and nobody
/// has changed since. `derive` gives the id that a name stands for. All others are in the record's own pages.
pub(super) fn told(
    provenances: &[Resource],
    derive: impl Fn(&str) -> String,
) -> HashMap<String, Vec<Told>> {
    let mut told: HashMap<String, Vec<Told>> = HashMap::new();
    for provenance in provenances {
        let text = |path: &[&str]| provenance.text_at(path).map(str::to_owned);
        let target = text(&["target", "0", "reference"]);
        let target = target.as_deref().and_then(Reference::parse);
        let Some(target) = target.filter(|target| target.kind == ResourceType::Consent) else {
            continue;
        };
        let Some(version) = target.version else {
            continue;
        };
        let is_ours = provenance.id() == Some(&*derive(&name_of(&target.id, version)))
            && provenance.text_at(&["meta", "versionId"]) == Some("1");
        let (true, Some(words)) = (is_ours, text(&["reason", "0", "text"])) else {
            continue;
        };
        told.entry(target.id).or_default().push(Told {
            words,
            name: text(&["agent", "0", "who", "display"]).unwrap_or_default(),
            recorded: text(&["recorded"]).unwrap_or_default(),
        });
    }
    told
}

/// Whether any part of a consent permits something.
pub(super) fn has_a_yes(consent: &Resource) -> bool {
    fn permits(provision: &Value) -> bool {
        provision["type"] == "permit"
            || provision["provision"]
                .as_array()
                .is_some_and(|inner| inner.iter().any(permits))
    }
    consent.get("provision").is_some_and(permits)
}

/// That the patient asked, and how.
pub(super) struct Stated {
    way: &'static (&'static str, &'static str, &'static str),
    words: String,
}

impl Stated {
    pub(super) fn of(fields: &Fields) -> Result<Self, PageError> {
        let asked = fields.get("asked").unwrap_or_default();
        let way = WAYS.iter().find(|(value, ..)| *value == asked);
        let words: Vec<&str> = fields
            .get("said")
            .unwrap_or_default()
            .split_whitespace()
            .collect();
        let words = words.join(" ");
        let letters = words.chars().count();
        match way {
            Some(way) if (WORDS_MIN..=WORDS_MAX).contains(&letters) => Ok(Self { way, words }),
            _ => Err(PageError::Invalid(format!(
                "State how the patient asked for this, and in {WORDS_MIN} to {WORDS_MAX} characters when and what was said."
            ))),
        }
    }

    /// For the audit.
    pub(super) fn note(&self) -> &'static str {
        self.way.2
    }

    /// Where the change comes from, without an id.
    pub(super) fn provenance(&self, ctx: &Ctx, patient: &str, target: &str) -> Resource {
        let agent = &ctx.session.agent;
        let own = json!({ "reference": format!("Patient/{patient}") });
        let now_ms = u64::try_from(ctx.times.care_ms).unwrap_or_default();
        let mut provenance = Resource::new(ResourceType::Provenance);
        provenance.set("target", json!([{ "reference": target }, own]));
        provenance.set("recorded", date::instant(now_ms).into());
        provenance.set(
            "reason",
            json!([{
                "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/v3-ActReason",
                    "code": "PATRQT",
                    "display": "patient requested",
                }],
                "text": format!("{}: {}", self.way.1, self.words),
            }]),
        );
        provenance.set(
            "agent",
            json!([{
                "type": { "coding": [{
                    "system": "http://terminology.hl7.org/CodeSystem/provenance-participant-type",
                    "code": "enterer",
                    "display": "Enterer",
                }] },
                "who": {
                    "identifier": { "system": AGENT, "value": agent.id },
                    "display": agent.name,
                },
                "onBehalfOf": own,
            }]),
        );
        provenance
    }
}
