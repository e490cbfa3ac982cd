//! The stream of time: what is planned in a lighter tone on top, the line of *now*, and the past
//! below, newest first; the days of a journey carry its rail.

use std::collections::HashMap;

use journey::{InstanceView, MessageTrail, TrailView};
use maud::{Markup, html};

use super::facts::{Entry, Group};
use crate::layout;
use crate::time::{Times, signed};

/// Entries on a page.
const PAGE: usize = 150;
/// Planned steps shown.
const PLANNED_MAX: usize = 12;
/// From so many measurements of one day they fold into one entry.
const FOLD: usize = 4;

/// Merges what journeys did into the entries: a step that made a resource explains that resource's
/// entry; other steps are entries of their own.
fn merge(entries: &mut Vec<Entry>, journeys: &[InstanceView], with_steps: bool) {
    let mut places: HashMap<String, usize> = entries
        .iter()
        .enumerate()
        .map(|(place, entry)| (entry.key.clone(), place))
        .collect();
    let of_messages = places.clone();
    for journey in journeys {
        for (number, step) in journey.trail.iter().enumerate() {
            if let Some(next) = next_channel(&journey.trail[number..])
                && let Some(place) = step.reference.as_ref().and_then(|it| of_messages.get(it))
            {
                let before = entries[*place].detail.take();
                entries[*place].detail = Some(html! {
                    @if let Some(before) = before { (before) }
                    p class="small" { "Then tried by " (next) "." }
                });
            }
            // Only the first step that names a resource made it; later ones came of it.
            if let Some(place) = step
                .reference
                .as_ref()
                .and_then(|reference| places.remove(reference))
            {
                let entry = &mut entries[place];
                entry.step = true;
                if entry.group != Group::Tasks || entry.why.is_none() {
                    entry.why = Some(sentence(&step.what, &step.why));
                }
                continue;
            }
            if with_steps {
                entries.push(Entry {
                    key: format!("{}-{number}", journey.id),
                    at_ms: signed(step.at_ms),
                    timed: true,
                    group: Group::Journey,
                    kind: "Journey",
                    title: step.what.clone(),
                    value: String::new(),
                    state: None,
                    detail: None,
                    why: (!step.why.is_empty()).then(|| step.why.clone()),
                    alarm: false,
                    step: true,
                });
            }
        }
        if with_steps && let Some((at, reason)) = &journey.ended {
            let said = journey
                .trail
                .last()
                .is_some_and(|last| last.at_ms == *at && last.what.contains(reason.as_str()));
            if !said {
                entries.push(Entry {
                    key: format!("{}-end", journey.id),
                    at_ms: signed(*at),
                    timed: true,
                    group: Group::Journey,
                    kind: "Journey",
                    title: format!("{} ended: {reason}", journey.title),
                    value: String::new(),
                    state: None,
                    detail: None,
                    why: None,
                    alarm: false,
                    step: true,
                });
            }
        }
    }
}

/// Of a message that could not be brought, the channel by which it was tried next: what is first in `trail` is that it
/// could not be brought.
fn next_channel(trail: &[TrailView]) -> Option<&'static str> {
    let (first, rest) = trail.split_first()?;
    let Some(MessageTrail::Undelivered(_)) = first.message else {
        return None;
    };
    let mut rest = rest.iter().filter(|later| later.step == first.step);
    match rest.find_map(|later| later.message)? {
        MessageTrail::Sent(channel) => Some(channel.name()),
        MessageTrail::Undelivered(_) => None,
    }
}

fn sentence(what: &str, why: &str) -> String {
    if why.is_empty() {
        what.to_owned()
    } else {
        format!("{what}: {why}")
    }
}

/// What running journeys plan, as entries.
fn planned(journeys: &[InstanceView], now_ms: i64) -> Vec<Entry> {
    let mut planned: Vec<Entry> = journeys
        .iter()
        .filter(|journey| journey.ended.is_none())
        .flat_map(|journey| {
            journey
                .planned
                .iter()
                .enumerate()
                .map(move |(number, step)| Entry {
                    key: format!("{}-plan-{number}", journey.id),
                    at_ms: signed(step.at_ms).max(now_ms + 1),
                    timed: true,
                    group: Group::Journey,
                    kind: "Planned",
                    title: step.what.clone(),
                    value: String::new(),
                    state: None,
                    detail: None,
                    why: None,
                    alarm: false,
                    step: true,
                })
        })
        .collect();
    planned.sort_by_key(|entry| entry.at_ms);
    planned.truncate(PLANNED_MAX);
    planned
}

/// The journey that a day belongs to, with its number in it.
fn day_in_journey(times: &Times, journeys: &[InstanceView], at_ms: i64) -> Option<i64> {
    journeys.iter().find_map(|journey| {
        let started = signed(journey.started_ms);
        let end = journey.ended.as_ref().map_or_else(
            || {
                journey
                    .planned
                    .iter()
                    .map(|step| signed(step.at_ms))
                    .max()
                    .unwrap_or(times.care_ms)
                    .max(times.care_ms)
            },
            |(at, _)| signed(*at),
        );
        (started..=end)
            .contains(&at_ms)
            .then(|| times.days_between(started, at_ms))
    })
}

fn item(times: &Times, entry: &Entry) -> Markup {
    let class = format!(
        "fact{}{}",
        if entry.step { " step" } else { "" },
        if entry.alarm { " alarm" } else { "" }
    );
    html! {
        li class=(class) data-key=(entry.key) {
            span class="kind" { (entry.kind) }
            div {
                span class="strong" { (entry.title) }
                @if !entry.value.is_empty() { " " span { (entry.value) } }
                @if let Some(state) = &entry.state { " " (state) }
                @if let Some(why) = &entry.why { span class="why" { (why) } }
                @if let Some(detail) = &entry.detail { (detail) }
            }
            @if entry.timed { time datetime=(crate::time::iso(entry.at_ms)) title=(times.exact(entry.at_ms)) { (times.hour(entry.at_ms)) } }
        }
    }
}

/// Many measurements of one day, folded.
fn folded(entries: &[&Entry], day: &str) -> Markup {
    html! {
        li class="fact" data-key={ "measured-" (day) } {
            span class="kind" { "Measured" }
            details id={ "measured-" (day) } {
                summary { span class="strong" { (layout::count_of(entries.len(), "measurement")) } }
                ul class="readings" { @for entry in entries { li { span { (entry.title) } span class="nowrap" { (entry.value) } } } }
            }
        }
    }
}

fn day(times: &Times, entries: &[&Entry], future: bool, number: Option<i64>) -> Markup {
    let at_ms = entries[0].at_ms;
    let key = times.day_key(at_ms);
    let measured: Vec<&Entry> = entries
        .iter()
        .copied()
        .filter(|entry| entry.group == Group::Measurements)
        .collect();
    let fold = measured.len() >= FOLD;
    html! {
        div class={ "day" @if number.is_some() { " in-journey" } @if future { " planned" } } {
            div class="when" {
                strong title=(times.day_title(at_ms)) { (times.day_short(at_ms)) }
                @if let Some(number) = number { " · day " (number) } @else { " · " (times.ago(at_ms)) }
            }
            ol {
                @for entry in entries.iter().filter(|entry| !fold || entry.group != Group::Measurements) { (item(times, entry)) }
                @if fold { (folded(&measured, &key)) }
            }
        }
    }
}

/// The stream. `address` makes the address of another page of it.
pub(super) fn draw(
    times: &Times,
    mut entries: Vec<Entry>,
    journeys: &[InstanceView],
    with_steps: bool,
    page: usize,
    address: &dyn Fn(usize) -> String,
) -> Markup {
    let now = times.care_ms;
    merge(&mut entries, journeys, with_steps);
    if with_steps {
        entries.extend(planned(journeys, now));
    }
    // Newest first; of what happened in the same moment, the later step first.
    entries.sort_by(|left, right| {
        right
            .at_ms
            .cmp(&left.at_ms)
            .then_with(|| right.key.cmp(&left.key))
    });
    let ahead = entries.iter().take_while(|entry| entry.at_ms > now).count();
    let (future, past) = entries.split_at(ahead);
    let last = past.len().div_ceil(PAGE).max(1);
    let page = page.clamp(1, last);
    let shown = past.iter().skip((page - 1) * PAGE).take(PAGE);
    let days = |entries: Vec<&Entry>, future: bool| {
        let mut days: Vec<Vec<&Entry>> = Vec::new();
        for entry in entries {
            match days.last_mut() {
                Some(day) if times.day_key(day[0].at_ms) == times.day_key(entry.at_ms) => {
                    day.push(entry);
                }
                _ => days.push(vec![entry]),
            }
        }
        html! { @for entries in &days { (day(times, entries, future, day_in_journey(times, journeys, entries[0].at_ms))) } }
    };
    html! {
        div class="timeline" {
            @if page == 1 {
                @if !future.is_empty() { h2 class="visually-hidden" { "What is planned" } (days(future.iter().collect(), true)) }
                div class="now" { span { "Now" } span {} }
            }
            h2 class="visually-hidden" { "What has happened" }
            @if past.is_empty() { (layout::empty("Nothing yet", "No entry of this kind is in the record.")) }
            (days(shown.collect(), false))
        }
        @if last > 1 {
            nav class="pager" aria-label="Pages of the timeline" {
                @if page > 1 { a href=(address(page - 1)) { "Newer" } }
                span class="quiet" { "Page " (page) " of " (last) ", " (layout::count_of(past.len(), "entry").replace("entrys", "entries")) }
                @if page < last { a href=(address(page + 1)) { "Older" } }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::time::DAY_MS;
    use journey::{Channel, PlannedView};

    const NOW: i64 = 100 * DAY_MS;

    fn entry(key: &str, at_ms: i64, group: Group) -> Entry {
        Entry {
            key: key.into(),
            at_ms,
            timed: true,
            group,
            kind: "Kind",
            title: key.into(),
            value: String::new(),
            state: None,
            detail: None,
            why: None,
            alarm: false,
            step: false,
        }
    }

    fn journey() -> InstanceView {
        let at = |day: i64| u64::try_from(day * DAY_MS).unwrap();
        let step = |day, what: &str, reference: Option<&str>| TrailView {
            at_ms: at(day),
            step: "s".into(),
            what: what.into(),
            why: "because".into(),
            reference: reference.map(str::to_owned),
            message: None,
        };
        InstanceView {
            id: "i".into(),
            patient: "p".into(),
            journey: "j".into(),
            title: "Follow-up".into(),
            version: 1,
            started_ms: at(90),
            ended: None,
            waiting: Vec::new(),
            hand: journey::HandView::default(),
            trail: vec![
                step(90, "started", None),
                step(91, "welcome sent", Some("Communication/c")),
                step(92, "welcome read", Some("Communication/c")),
            ],
            act: trust::consent::Act::any(trust::Purpose::Treatment),
            ends_without_consent: true,
            planned: vec![PlannedView {
                at_ms: at(107),
                step: "visit".into(),
                what: "visit offered".into(),
                plain: String::new(),
            }],
        }
    }

    fn text(html: &Markup) -> String {
        html.clone().into_string()
    }

    #[test]
    fn steps_explain_what_they_made_and_stand_alone_otherwise() {
        let mut entries = vec![entry("Communication/c", 91 * DAY_MS, Group::Messages)];
        merge(&mut entries, &[journey()], true);
        assert!(entries[0].step);
        assert_eq!(entries[0].why.as_deref(), Some("welcome sent: because"));
        let alone: Vec<&str> = entries[1..]
            .iter()
            .map(|entry| entry.title.as_str())
            .collect();
        assert_eq!(alone, ["started", "welcome read"]);
    }

    #[test]
    fn a_message_that_fell_back_says_by_which_channel() {
        let mut journey = journey();
        let of = |message, reference: &str| TrailView {
            message: Some(message),
            reference: Some(reference.into()),
            ..journey.trail[1].clone()
        };
        let trail = vec![
            of(MessageTrail::Sent(Channel::Sms), "Communication/a"),
            of(MessageTrail::Undelivered(Channel::Sms), "Communication/a"),
            TrailView {
                step: "other".into(),
                ..of(MessageTrail::Sent(Channel::Push), "Communication/o")
            },
            of(MessageTrail::Sent(Channel::Email), "Communication/b"),
            of(MessageTrail::Undelivered(Channel::Email), "Communication/b"),
        ];
        journey.trail = trail;
        let mut entries: Vec<Entry> = ["a", "b", "o"]
            .map(|id| entry(&format!("Communication/{id}"), 91 * DAY_MS, Group::Messages))
            .into();
        merge(&mut entries, &[journey], true);
        let said = |place: usize| entries[place].detail.as_ref().map(text).unwrap_or_default();
        assert!(said(0).contains("Then tried by email."), "{}", said(0));
        assert_eq!((said(1).as_str(), said(2).as_str()), ("", ""));
    }

    #[test]
    fn the_future_stands_above_now_and_the_past_below() {
        let times = Times {
            care_ms: NOW,
            wall_ms: NOW,
            zone: jiff::tz::TimeZone::UTC,
        };
        let entries = vec![
            entry("old", 10 * DAY_MS, Group::Conditions),
            entry("recent", 95 * DAY_MS, Group::Visits),
        ];
        let drawn = text(&draw(&times, entries, &[journey()], true, 1, &|_| {
            String::new()
        }));
        let place = |what: &str| {
            drawn
                .find(what)
                .unwrap_or_else(|| panic!("{what} is missing"))
        };
        assert!(place("visit offered") < place(">Now<"));
        assert!(place(">Now<") < place("recent"));
        assert!(place("recent") < place("welcome sent"));
        assert!(place("welcome sent") < place(">old<"));
        assert!(drawn.contains("day 5"));
    }

    #[test]
    fn many_measurements_of_a_day_fold() {
        let times = Times {
            care_ms: NOW,
            wall_ms: NOW,
            zone: jiff::tz::TimeZone::UTC,
        };
        let some = |count: usize| {
            (0..count)
                .map(|n| {
                    entry(
                        &format!("Observation/{n}"),
                        50 * DAY_MS,
                        Group::Measurements,
                    )
                })
                .collect::<Vec<_>>()
        };
        assert!(
            text(&draw(&times, some(12), &[], true, 1, &|_| String::new()))
                .contains("12 measurements")
        );
        assert!(
            !text(&draw(&times, some(3), &[], true, 1, &|_| String::new()))
                .contains("measurements")
        );
    }

    #[test]
    fn pages_cover_everything() {
        let times = Times {
            care_ms: NOW,
            wall_ms: NOW,
            zone: jiff::tz::TimeZone::UTC,
        };
        let many: Vec<Entry> = (0..PAGE + 1)
            .map(|n| {
                entry(
                    &format!("e{n}"),
                    i64::try_from(n).unwrap() * 1_000,
                    Group::Visits,
                )
            })
            .collect();
        let first = text(&draw(&times, many.clone(), &[], true, 1, &|page| {
            format!("/p{page}")
        }));
        let second = text(&draw(&times, many, &[], true, 2, &|page| {
            format!("/p{page}")
        }));
        assert!(first.contains("/p2") && !first.contains(">e0<"));
        assert!(second.contains(">e0<") && !second.contains(">Now<"));
    }
}
