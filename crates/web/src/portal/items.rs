//! What a patient has before them: forms to fill in, visits offered, visits booked.

use fhir::Resource;
use serde_json::Value;
use trust::conventions::is_by_video;

use crate::context::Ctx;
use crate::patient::facts::is_form;
use crate::time::fhir_time;
use crate::video;

use super::languages::Tongue;

/// What sort of thing it is; the order is the order of the page when times are equal.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Kind {
    Form,
    Offer,
    Visit,
}

/// Something that the patient has before them.
#[derive(Debug, Clone)]
pub(crate) struct Item {
    pub(crate) kind: Kind,
    pub(crate) title: String,
    /// The language of the title, where it isn't the page's.
    pub(crate) lang: Option<String>,
    pub(crate) words: Option<String>,
    /// When it is, or until when it is to be done.
    pub(crate) at_ms: Option<i64>,
    /// Until when to answer.
    pub(crate) by_ms: Option<i64>,
    pub(crate) minutes: Option<i64>,
    pub(crate) place: Option<String>,
    pub(crate) href: String,
}

impl Item {
    /// What needs the patient comes before what they only have to know; then by time.
    pub(crate) fn order(&self) -> (bool, i64, Kind) {
        (
            self.kind == Kind::Visit,
            self.by_ms.or(self.at_ms).unwrap_or(i64::MAX),
            self.kind,
        )
    }
}

fn at(ctx: &Ctx, resource: &Resource, path: &[&str]) -> Option<i64> {
    fhir_time(&ctx.times, resource.text_at(path)?).map(|(ms, ..)| ms)
}

/// An open form, as it is called in the patient's language.
pub(crate) fn of_task(ctx: &Ctx, patient: &Resource, task: &Resource) -> Option<Item> {
    if !is_form(task) {
        return None;
    }
    let tongue = Tongue::of(Some(patient), task);
    let title = tongue.said(task.as_value(), "description");
    Some(Item {
        kind: Kind::Form,
        title: title
            .map_or("A form to fill in", |title| title.words)
            .to_owned(),
        lang: title.and_then(|title| title.lang).map(str::to_owned),
        words: None,
        at_ms: at(ctx, task, &["restriction", "period", "end"]),
        by_ms: None,
        minutes: None,
        place: None,
        href: format!("/portal/forms/{}", task.id().unwrap_or_default()),
    })
}

/// Where a visit is: the display of a participant that is a place.
pub(crate) fn place(visit: &Resource) -> Option<String> {
    visit
        .get("participant")
        .and_then(Value::as_array)?
        .iter()
        .find(|participant| {
            participant
                .pointer("/actor/reference")
                .and_then(Value::as_str)
                .is_some_and(|reference| reference.contains("Location/"))
        })?
        .pointer("/actor/display")?
        .as_str()
        .map(str::to_owned)
}

/// A visit that is still to come, offered or booked.
pub(crate) fn of_visit(ctx: &Ctx, visit: &Resource) -> Option<Item> {
    let start = at(ctx, visit, &["start"]);
    if start.is_some_and(|start| start < ctx.times.care_ms) && !video::lasts(ctx, visit) {
        return None;
    }
    let booked = matches!(visit.text_at(&["status"]), Some("booked")) || video::lasts(ctx, visit);
    let kind = if booked { Kind::Visit } else { Kind::Offer };
    Some(Item {
        kind,
        title: visit
            .text_at(&["description"])
            .unwrap_or("A visit")
            .to_owned(),
        lang: None,
        words: visit.text_at(&["patientInstruction"]).map(str::to_owned),
        at_ms: start,
        by_ms: at(ctx, visit, &["requestedPeriod", "0", "end"]).filter(|_| kind == Kind::Offer),
        minutes: visit.get("minutesDuration").and_then(Value::as_i64),
        place: match is_by_video(visit) {
            true => Some("By video".to_owned()),
            false => place(visit),
        },
        href: format!("/portal/visits/{}", visit.id().unwrap_or_default()),
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_needs_the_patient_comes_first() {
        let item = |kind, at_ms| Item {
            kind,
            title: String::new(),
            lang: None,
            words: None,
            at_ms,
            by_ms: None,
            minutes: None,
            place: None,
            href: format!("{at_ms:?}"),
        };
        let mut items = [
            item(Kind::Visit, Some(1)),
            item(Kind::Offer, Some(9)),
            item(Kind::Form, Some(5)),
            item(Kind::Form, None),
        ];
        items.sort_by_key(Item::order);
        let kinds: Vec<Kind> = items.iter().map(|item| item.kind).collect();
        assert_eq!(kinds, [Kind::Form, Kind::Offer, Kind::Form, Kind::Visit]);
    }
}
