//! Which messages a patient wants, by which ways, and when: what they have said, as the record keeps it. Pure.
//!
//! It is a `Basic` of the patient's, the one resource of R4 for what has none of its own, and not a part of `Patient`:
//! who acts for a patient may say it and sees no address, and a system that writes `Patient` anew takes nothing of it
//! off. What is read may be from anywhere: what means nothing here says nothing.

use fhir::{Resource, ResourceType};
use jiff::civil::Time;
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};

use super::{QuietHours, list};
use crate::conventions::{
    BASIC_SYSTEM, MESSAGE_HOURS_URL, MESSAGE_LEVEL_URL, MESSAGE_TOPIC_URL, MESSAGE_WISHES,
};

/// What a message is about, as its journey says it. These are all that there are: a patient who is asked about ten kinds
/// answers for none.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, PartialOrd, Ord, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Topic {
    /// Visits: to book them, and reminders of them.
    Visits,
    /// Questions and forms.
    Forms,
    /// All else of the care plan. What a newer program calls otherwise is of it.
    #[serde(other)]
    Care,
}

impl Topic {
    /// All of them, in the order in which they are shown.
    pub const ALL: [Self; 3] = [Self::Visits, Self::Forms, Self::Care];

    /// As files and resources have it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Visits => "visits",
            Self::Forms => "forms",
            Self::Care => "care",
        }
    }

    /// What messages of it are about, in words.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Visits => "visits",
            Self::Forms => "questions and forms",
            Self::Care => "the care plan",
        }
    }

    /// The one with a code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|topic| topic.code() == code)
    }

    fn place(self) -> usize {
        match self {
            Self::Visits => 0,
            Self::Forms => 1,
            Self::Care => 2,
        }
    }
}

/// How much a message can't wait, as its journey says it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub enum Pressing {
    /// In its turn.
    Routine,
    /// More than routine.
    Important,
    /// It can't wait at all. What a newer program may know besides is withheld by nothing either.
    #[serde(other)]
    Clinical,
}

/// What is asked of a patient's wishes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Sort {
    /// What the message is about.
    pub topic: Topic,
    /// How much it can't wait.
    pub pressing: Pressing,
}

/// A way by which messages reach out.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub enum Via {
    /// By e-mail.
    Email,
    /// By text message.
    Sms,
    /// By notification on a device of the patient's.
    Push,
    /// By letter.
    Letter,
    /// By telephone call.
    Voice,
}

impl Via {
    /// All of them.
    pub const ALL: [Self; 5] = [
        Self::Email,
        Self::Sms,
        Self::Push,
        Self::Letter,
        Self::Voice,
    ];

    /// As `ContactPoint.system` and the language have it.
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Email => "email",
            Self::Sms => "sms",
            Self::Push => "push",
            Self::Letter => "letter",
            Self::Voice => "voice",
        }
    }

    /// In words, as what is sent.
    #[must_use]
    pub fn words(self) -> &'static str {
        match self {
            Self::Email => "e-mail",
            Self::Sms => "text messages",
            Self::Push => "notifications",
            Self::Letter => "letters",
            Self::Voice => "telephone calls",
        }
    }

    /// The one with a code.
    #[must_use]
    pub fn parse(code: &str) -> Option<Self> {
        Self::ALL.into_iter().find(|reach| reach.code() == code)
    }
}

/// Why a patient doesn't want a message by a way.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Unwelcome {
    /// Not what is about this, not by this way.
    Topic,
    /// It is routine, and they want nothing but what is important.
    Routine,
}

impl Unwelcome {
    /// The code in [`crate::conventions::NOT_DONE_SYSTEM`].
    #[must_use]
    pub fn code(self) -> &'static str {
        match self {
            Self::Topic => "unwelcome",
            Self::Routine => "only-important",
        }
    }

    /// Why, with what and by which way.
    #[must_use]
    pub fn words(self, topic: Topic, reach: Option<Via>) -> String {
        let what = reach.map_or("messages by this channel", Via::words);
        match self {
            Self::Topic => {
                format!("The patient does not want {what} about {}.", topic.words())
            }
            Self::Routine => {
                format!("The patient wants {what} about nothing but what is important.")
            }
        }
    }
}

/// What a patient has said. Nothing at all where they have said nothing: then journeys decide.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Wishes {
    ways: [Option<Vec<Via>>; 3],
    quiet: Option<QuietHours>,
    only_important: bool,
}

impl Wishes {
    /// What a resource of the record says. What is no such resource, or is not of this patient, says nothing.
    #[must_use]
    pub fn of(patient: &str, resource: &Resource) -> Self {
        let mut wishes = Self::default();
        let codings = resource.at(&["code", "coding"]).and_then(Value::as_array);
        let is_it = codings
            .into_iter()
            .flatten()
            .any(|coding| coding["system"] == BASIC_SYSTEM && coding["code"] == MESSAGE_WISHES);
        let subject = format!("Patient/{patient}");
        if resource.kind() != ResourceType::Basic
            || !is_it
            || resource.text_at(&["subject", "reference"]) != Some(subject.as_str())
        {
            return wishes;
        }
        for extension in list(resource.get("extension")) {
            let parts = || list(extension.get("extension"));
            match extension["url"].as_str() {
                Some(MESSAGE_TOPIC_URL) => {
                    let mut topic = parts().filter(|part| part["url"] == "topic");
                    let topic = topic
                        .next()
                        .and_then(|part| Topic::parse(part["valueCode"].as_str()?));
                    let Some(topic) = topic else { continue };
                    let said = &mut wishes.ways[topic.place()];
                    // The first word on something is the word.
                    if said.is_some() {
                        continue;
                    }
                    let ways = said.insert(Vec::new());
                    let named = parts().filter(|part| part["url"] == "way");
                    for way in named.filter_map(|part| Via::parse(part["valueCode"].as_str()?)) {
                        if !ways.contains(&way) {
                            ways.push(way);
                        }
                    }
                }
                Some(MESSAGE_HOURS_URL) if wishes.quiet.is_none() => {
                    let time = |name: &str| -> Option<Time> {
                        let part = parts().find(|part| part["url"] == name)?;
                        part["valueTime"].as_str()?.parse().ok()
                    };
                    let quiet = time("from").zip(time("until"));
                    let quiet = quiet.map(|(from, until)| QuietHours { from, until });
                    wishes.quiet = quiet.filter(|quiet| quiet.from != quiet.until);
                }
                Some(MESSAGE_LEVEL_URL) => {
                    wishes.only_important |= extension["valueCode"] == ONLY_IMPORTANT;
                }
                _ => {}
            }
        }
        wishes
    }

    /// Writes it into a resource; what others have put there stays.
    pub fn write(&self, patient: &str, resource: &mut Resource) {
        let own = [MESSAGE_TOPIC_URL, MESSAGE_HOURS_URL, MESSAGE_LEVEL_URL];
        let extensions = list(resource.get("extension"));
        let mut extensions: Vec<Value> = extensions
            .filter(|one| !one["url"].as_str().is_some_and(|url| own.contains(&url)))
            .cloned()
            .collect();
        for topic in Topic::ALL {
            let Some(ways) = self.ways(topic) else {
                continue;
            };
            let mut parts = vec![json!({"url": "topic", "valueCode": topic.code()})];
            let ways = ways.iter();
            parts.extend(ways.map(|way| json!({"url": "way", "valueCode": way.code()})));
            extensions.push(json!({"url": MESSAGE_TOPIC_URL, "extension": parts}));
        }
        if let Some(quiet) = self.quiet {
            let time = |time: Time| {
                format!(
                    "{:02}:{:02}:{:02}",
                    time.hour(),
                    time.minute(),
                    time.second()
                )
            };
            extensions.push(json!({"url": MESSAGE_HOURS_URL, "extension": [
                {"url": "from", "valueTime": time(quiet.from)},
                {"url": "until", "valueTime": time(quiet.until)},
            ]}));
        }
        if self.only_important {
            extensions.push(json!({"url": MESSAGE_LEVEL_URL, "valueCode": ONLY_IMPORTANT}));
        }
        if extensions.is_empty() {
            resource.remove("extension");
        } else {
            resource.set("extension", Value::Array(extensions));
        }
        resource.set(
            "code",
            json!({
                "coding": [{"system": BASIC_SYSTEM, "code": MESSAGE_WISHES, "display": "Which messages are wanted, and how"}],
            }),
        );
        resource.set(
            "subject",
            json!({"reference": format!("Patient/{patient}")}),
        );
    }

    /// The ways by which messages about something are welcome, the first first; none at all is the inbox alone, and
    /// nothing what journeys say.
    #[must_use]
    pub fn ways(&self, topic: Topic) -> Option<&[Via]> {
        self.ways[topic.place()].as_deref()
    }

    /// Whether something was said of a topic in which a way isn't welcome.
    #[must_use]
    pub fn lacks(&self, way: Via) -> bool {
        let mut said = self.ways.iter().flatten();
        said.any(|ways| !ways.contains(&way))
    }

    /// Says it of one topic.
    pub fn set_ways(&mut self, topic: Topic, ways: Option<Vec<Via>>) {
        self.ways[topic.place()] = ways;
    }

    /// When no message is welcome, by the patient's own clock.
    #[must_use]
    pub fn quiet(&self) -> Option<QuietHours> {
        self.quiet
    }

    /// Says when no message is welcome.
    pub fn set_quiet(&mut self, quiet: Option<QuietHours>) {
        self.quiet = quiet;
    }

    /// Whether only what is important is to reach out.
    #[must_use]
    pub fn only_important(&self) -> bool {
        self.only_important
    }

    /// Says whether only what is important is to reach out.
    pub fn set_only_important(&mut self, only: bool) {
        self.only_important = only;
    }

    /// Why a message isn't welcome by a way; none is one that patients weren't asked about. What is clinical can't be
    /// unwelcome here.
    #[must_use]
    pub fn refuses(&self, sort: Sort, reach: Option<Via>) -> Option<Unwelcome> {
        if sort.pressing == Pressing::Clinical {
            return None;
        }
        if self
            .ways(sort.topic)
            .is_some_and(|ways| !reach.is_some_and(|reach| ways.contains(&reach)))
        {
            return Some(Unwelcome::Topic);
        }
        (self.only_important && sort.pressing == Pressing::Routine).then_some(Unwelcome::Routine)
    }
}

/// Code of a level of messages.
const ONLY_IMPORTANT: &str = "only-important";

#[cfg(test)]
mod tests {
    use super::*;

    fn basic(extension: &Value) -> Resource {
        Resource::from_value(json!({
            "resourceType": "Basic", "id": "b",
            "code": {"coding": [{"system": BASIC_SYSTEM, "code": MESSAGE_WISHES}]},
            "subject": {"reference": "Patient/p"},
            "extension": extension
        }))
        .unwrap()
    }

    fn about(topic: &str, ways: &[&str]) -> Value {
        let mut parts = vec![json!({"url": "topic", "valueCode": topic})];
        let ways = ways.iter();
        parts.extend(ways.map(|way| json!({"url": "way", "valueCode": way})));
        json!({"url": MESSAGE_TOPIC_URL, "extension": parts})
    }

    fn sort(topic: Topic, pressing: Pressing) -> Sort {
        Sort { topic, pressing }
    }

    #[test]
    fn what_is_said_is_read_back_and_what_others_put_there_stays() {
        let mut wishes = Wishes::default();
        wishes.set_ways(Topic::Visits, Some(vec![Via::Sms, Via::Push, Via::Email]));
        wishes.set_ways(Topic::Care, Some(Vec::new()));
        wishes.set_only_important(true);
        wishes.set_quiet(Some(QuietHours {
            from: "20:30".parse().unwrap(),
            until: "07:00".parse().unwrap(),
        }));
        let mut resource = basic(&json!([{"url": "urn:other", "valueString": "x"}]));
        wishes.write("p", &mut resource);
        assert_eq!(Wishes::of("p", &resource), wishes);
        let before = resource.clone();
        wishes.write("p", &mut resource);
        assert_eq!(resource, before, "twice is as once");
        assert_eq!(
            resource.text_at(&["extension", "0", "url"]),
            Some("urn:other")
        );
        // Another patient's says nothing of this one.
        assert_eq!(Wishes::of("q", &resource), Wishes::default());
        Wishes::default().write("p", &mut resource);
        assert_eq!(
            resource.get("extension"),
            Some(&json!([{"url": "urn:other", "valueString": "x"}]))
        );
        assert_eq!(Wishes::of("p", &resource), Wishes::default());
    }

    #[test]
    fn what_means_nothing_says_nothing() {
        let hours = |from: Value, until: Value| json!({"url": MESSAGE_HOURS_URL, "extension": [{"url": "from", "valueTime": from}, {"url": "until", "valueTime": until}]});
        for extension in [
            json!("x"),
            json!([1, null, {"url": 3}]),
            json!([about("everything", &["email"])]),
            json!([{"url": MESSAGE_TOPIC_URL}, {"url": MESSAGE_TOPIC_URL, "extension": {}}]),
            json!([hours(json!("25:00:00"), json!("07:00:00"))]),
            json!([hours(json!("21:00:00"), json!("21:00:00"))]),
            json!([hours(json!(21), json!("07:00:00"))]),
            json!([{"url": MESSAGE_LEVEL_URL, "valueCode": "whatever"}]),
        ] {
            let found = Wishes::of("p", &basic(&extension));
            assert_eq!(found, Wishes::default(), "{extension}");
        }
        // A way that isn't known here was wanted, and no other.
        let newer = basic(&json!([
            about("care", &["hologram"]),
            about("care", &["email"])
        ]));
        let wishes = Wishes::of("p", &newer);
        assert_eq!(wishes.ways(Topic::Care), Some(&[][..]));
        let twice = basic(&json!([about("care", &["sms", "sms", "email"])]));
        let wishes = Wishes::of("p", &twice);
        assert_eq!(wishes.ways(Topic::Care), Some(&[Via::Sms, Via::Email][..]));
        // Something else that lies under that id.
        let mut other = basic(&json!([about("care", &[])]));
        other.set(
            "code",
            json!({"coding": [{"system": BASIC_SYSTEM, "code": "other"}]}),
        );
        assert_eq!(Wishes::of("p", &other), Wishes::default());
    }

    #[test]
    fn a_message_is_welcome_or_not_by_topic_way_and_how_much_it_presses() {
        let mut wishes = Wishes::default();
        wishes.set_ways(Topic::Visits, Some(vec![Via::Email]));
        wishes.set_ways(Topic::Forms, Some(Vec::new()));
        let mut few = wishes.clone();
        few.set_only_important(true);
        use Pressing::{Clinical, Important, Routine};
        use Via::{Email, Sms};
        for (wishes, topic, pressing, reach, expected) in [
            (&wishes, Topic::Visits, Routine, Email, None),
            (
                &wishes,
                Topic::Visits,
                Important,
                Sms,
                Some(Unwelcome::Topic),
            ),
            (&wishes, Topic::Visits, Clinical, Sms, None),
            (
                &wishes,
                Topic::Forms,
                Routine,
                Email,
                Some(Unwelcome::Topic),
            ),
            (&wishes, Topic::Forms, Clinical, Email, None),
            (&wishes, Topic::Care, Routine, Sms, None),
            (&few, Topic::Care, Routine, Sms, Some(Unwelcome::Routine)),
            (&few, Topic::Care, Important, Sms, None),
            (
                &few,
                Topic::Visits,
                Routine,
                Email,
                Some(Unwelcome::Routine),
            ),
            (&few, Topic::Visits, Routine, Sms, Some(Unwelcome::Topic)),
            (&few, Topic::Care, Clinical, Sms, None),
        ] {
            let found = wishes.refuses(sort(topic, pressing), Some(reach));
            assert_eq!(found, expected, "{topic:?} {pressing:?} {reach:?}");
        }
        // A way that isn't among those to choose from is welcome as long as nothing was chosen.
        let other = |wishes: &Wishes, topic| wishes.refuses(sort(topic, Routine), None);
        assert_eq!(other(&wishes, Topic::Visits), Some(Unwelcome::Topic));
        assert_eq!(other(&wishes, Topic::Care), None);
        assert_eq!(other(&few, Topic::Care), Some(Unwelcome::Routine));
    }

    /// A newer program may know more; an older one still carries its messages.
    #[test]
    fn words_of_newer_programs_are_read_as_what_nothing_withholds() {
        let kept = json!({"topic": "vaccines", "pressing": "dire", "later": true});
        let read: Sort = serde_json::from_value(kept).unwrap();
        assert_eq!(read, sort(Topic::Care, Pressing::Clinical));
        // Nothing withholds what may be more urgent than we know.
        let wishes = Wishes {
            only_important: true,
            ..Wishes::default()
        };
        assert_eq!(wishes.refuses(read, None), None);
        for topic in Topic::ALL {
            let text = serde_json::to_value(topic).unwrap();
            assert_eq!(text, topic.code());
        }
    }
}
