//! What care programmes do for a patient, and whether a denial of a part may be one of that.
//!
//! A programme goes on with a journey and sends its messages: for a purpose, by what it knows of some types of
//! resources, and as nobody in particular. A denial is left out only where it is certainly about something
//! else, so that no exception of a patient's is lost.
use fhir::ResourceType;
use serde_json::Value;

use super::{list, narrowed, nested, provision, type_of};
use crate::Purpose;

/// What a provision says of whom, when, what for and what it is about.
const NARROWING: [&str; 10] = [
    "action",
    "actor",
    "class",
    "code",
    "data",
    "dataPeriod",
    "modifierExtension",
    "period",
    "purpose",
    "securityLabel",
];

/// Something that a care programme does.
#[derive(Debug, Clone)]
pub struct Act {
    /// What for.
    pub purpose: Purpose,
    /// The types of resources that it is about; none where nobody knows: then it may be about any.
    pub about: Vec<ResourceType>,
    /// `Type/id` of what the programmes here are known as, e.g. their organization.
    pub known_as: Vec<String>,
}

impl Act {
    /// One that may be about anything, by anybody.
    #[must_use]
    pub fn any(purpose: Purpose) -> Self {
        Self {
            purpose,
            about: Vec::new(),
            known_as: Vec::new(),
        }
    }

    /// Whether a provision that denies may deny this. `around` is whom the one around it names. Where
    /// `exceptions` don't hold, nothing takes it back.
    pub(super) fn may_be_denied_by(
        &self,
        denial: &Value,
        around: Option<&Value>,
        exceptions: bool,
    ) -> bool {
        let actors = named_actors(denial).or(around);
        actors.is_none_or(|actors| self.may_be_of(actors))
            && self.may_have_class(denial)
            && self.may_have_data(denial)
            && !(exceptions && is_taken_back(denial))
    }

    fn may_be_of(&self, actors: &Value) -> bool {
        list(Some(actors))
            .filter(|actor| !provision::gives(actor))
            .any(|actor| match provision::local(actor.get("reference")) {
                Some((_, reference)) if self.known_as.contains(&reference) => true,
                // A programme is no person of the staff or the family, and no device.
                Some((
                    ResourceType::Practitioner
                    | ResourceType::PractitionerRole
                    | ResourceType::RelatedPerson
                    | ResourceType::Device,
                    _,
                )) => false,
                // Whether it is of an organization or a team, only those can tell who said which one it
                // is of.
                Some((
                    ResourceType::Organization | ResourceType::CareTeam | ResourceType::Group,
                    reference,
                )) => {
                    let kind = |text: &str| fhir::Reference::relative(text).map(|(kind, _)| kind);
                    let mut known = self.known_as.iter().map(|known| kind(known));
                    !known.any(|known| known == kind(&reference))
                }
                // The patient, to whom messages go, and whatever else may be meant.
                _ => true,
            })
    }

    fn may_have_class(&self, denial: &Value) -> bool {
        let mut classes = list(denial.get("class")).peekable();
        self.about.is_empty()
            || classes.peek().is_none()
            || classes.any(|class| match provision::class_kind(class) {
                Some(kind) => self.about.contains(&kind),
                None => true,
            })
    }

    fn may_have_data(&self, denial: &Value) -> bool {
        let mut data = list(denial.get("data")).peekable();
        self.about.is_empty()
            || data.peek().is_none()
            || data.any(|data| {
                let is_one = data.get("meaning").and_then(Value::as_str) == Some("instance");
                match provision::local(data.get("reference")) {
                    Some((kind, _)) if is_one => self.about.contains(&kind),
                    _ => true,
                }
            })
    }
}

/// Whom a provision names, but for those who give the consent.
pub(super) fn named_actors(provision: &Value) -> Option<&Value> {
    let actors = provision.get("actor")?;
    let mut named = list(Some(actors)).filter(|actor| !provision::gives(actor));
    named.next().map(|_| actors)
}

/// Whether a denial of a part has an exception that permits all of it: it is there so that the exception stands
/// alone, and denies nothing.
fn is_taken_back(denial: &Value) -> bool {
    narrowed(denial)
        && is_plain(denial)
        && nested(denial).any(|inner| {
            type_of(inner) == Some("permit")
                && nested(inner).next().is_none()
                && inner.get("modifierExtension").is_none()
                && NARROWING
                    .iter()
                    .all(|name| inner.get(*name).is_none() || inner.get(*name) == denial.get(*name))
        })
        && nested(denial).all(|inner| type_of(inner) == Some("permit"))
}

/// Whether all that a provision says of whom and what it is about can be told: what can't counts for a "no", and
/// never for an exception.
fn is_plain(provision: &Value) -> bool {
    let each =
        |name: &str, is_told: &dyn Fn(&Value) -> bool| list(provision.get(name)).all(is_told);
    let unread = [
        "action",
        "code",
        "dataPeriod",
        "modifierExtension",
        "period",
    ];
    unread.iter().all(|name| provision.get(*name).is_none())
        && each("actor", &|actor| {
            provision::local(actor.get("reference")).is_some()
        })
        && each("class", &|class| provision::class_kind(class).is_some())
        && each("data", &|data| {
            provision::local(data.get("reference")).is_some()
        })
        && each("purpose", &|purpose| {
            let code = purpose.get("code").and_then(Value::as_str);
            code.and_then(Purpose::parse).is_some()
        })
        && each("securityLabel", &|label| {
            label.get("code").is_some_and(Value::is_string)
        })
}

#[cfg(test)]
mod tests;
