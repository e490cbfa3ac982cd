//! What became of a subscription's notifications, what is sent again, and what they are signed with, for who asked for it:
//! `$status` and `$events` in the shape that the Subscriptions R5 Backport has for R4 (what is about topics is left out,
//! because there are none), and `$replay` and `$rotate-secret` of Cairn's own.
//!
//! Numbers of events are those of the store: they grow with the time at which something was written, and there are gaps
//! between them.

use fhir::{IssueCode, date};
use serde_json::{Value, json};
use trust::{
    Action, HookBook, HookDelivery, HookLog, IN_FORCE_MAX, NoReplay, OVERLAP_MAX_MS, Permit,
    ReplayOf, SubscribedKept,
};

use super::{Aim, KIND};
use crate::operations::{answer, refuse};
use crate::write::{IfMatch, wrap};
use crate::{Answer, Caller, Record, RecordError};

/// Deliveries of one answer.
const EVENTS_MAX: usize = 500;
/// How long a secret stays good that another has taken the place of, where nobody says.
const OVERLAP_HOURS: u64 = 24;
const HOUR_MS: u64 = 3_600_000;

/// A subscription with all that is kept of it.
struct Own {
    permit: Permit,
    kept: SubscribedKept,
    book: HookBook,
}

fn not_found() -> RecordError {
    RecordError::new(404, IssueCode::NotFound, "there is no such subscription")
}

impl Record {
    /// What is the caller's own; the look at it is in the audit.
    async fn own(&self, caller: &Caller, id: &str, action: Action) -> Result<Own, RecordError> {
        let permit = self.permit(caller, action, Some(KIND), None).await?;
        // Who only looks has no permit to change it; the look is in the audit either way.
        let (row, looks) = if action == Action::Read {
            let row = self.vault().read(&permit, KIND, id).await;
            (row.map_err(wrap(caller))?, false)
        } else {
            let if_match = IfMatch::Anything;
            let aim = Aim {
                id,
                if_match: &if_match,
            };
            (self.own_subscription(caller, &permit, aim).await?, true)
        };
        let row = row.filter(|row| !row.deleted).ok_or_else(not_found)?;
        let kept = self.kept(caller, &permit, id).await?;
        let kept = kept.ok_or_else(not_found)?;
        if !kept.subscribed.owner.is(&caller.agent) {
            return Err(RecordError::new(
                403,
                IssueCode::Forbidden,
                "what became of notifications is told to whoever asked for them alone",
            ));
        }
        if looks {
            self.note_look(caller, &permit, KIND, row.resource.id().unwrap_or(id))
                .await?;
        }
        let book = self.vault().hook_book(&permit, id).await;
        let book = book.map_err(wrap(caller))?.book;
        Ok(Own { permit, kept, book })
    }

    async fn logs(
        &self,
        caller: &Caller,
        id: &str,
        own: &Own,
    ) -> Result<Vec<HookLog>, RecordError> {
        let logs = self.vault().hook_logs(&own.permit, (id, own.book.turn));
        logs.await.map_err(wrap(caller))
    }

    fn hook_status(
        &self,
        caller: &Caller,
        (id, own): (&str, &Own),
        logs: &[HookLog],
        kind: &str,
    ) -> Result<Value, RecordError> {
        let apart_ms = self.vault().apart_ms().map_err(wrap(caller))?;
        Ok(status(id, own, (logs, apart_ms), kind))
    }

    /// What an entry is called that is nowhere else: `Parameters` have no address of their own.
    fn nameless(&self) -> String {
        let mut bytes = [0; 16];
        self.vault().ledger().entropy().fill(&mut bytes);
        // Version 4, variant 2 (RFC 9562, section 5.4).
        let number = u128::from_be_bytes(bytes) & !(0xf << 76 | 3 << 62) | 4 << 76 | 2 << 62;
        let digits = format!("{number:032x}");
        let (first, second, third) = (&digits[..8], &digits[8..12], &digits[12..16]);
        let (fourth, last) = (&digits[16..20], &digits[20..]);
        format!("urn:uuid:{first}-{second}-{third}-{fourth}-{last}")
    }

    /// `Subscription/[id]/$status`.
    ///
    /// # Errors
    /// 403 for whoever did not ask for it; 404.
    pub async fn subscription_status(
        &self,
        caller: &Caller,
        id: &str,
    ) -> Result<Answer, RecordError> {
        let own = self.own(caller, id, Action::Read).await?;
        let logs = self.logs(caller, id, &own).await?;
        let status = self.hook_status(caller, (id, &own), &logs, "query-status")?;
        let entry = json!([{"fullUrl": self.nameless(),
            "resource": status, "search": {"mode": "match"}}]);
        let bundle =
            json!({"resourceType": "Bundle", "type": "searchset", "total": 1, "entry": entry});
        Ok(answer(bundle.to_string().into_bytes()))
    }

    /// `Subscription/[id]/$events`: the deliveries that are kept, by their numbers.
    ///
    /// # Errors
    /// As [`Record::subscription_status`]; 400 for parameters that are not understood.
    pub async fn subscription_events(
        &self,
        caller: &Caller,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        let (mut since, mut until, mut with_focus) = (0, u64::MAX, true);
        for (name, value) in parameters {
            match (name.as_str(), value.as_str()) {
                ("eventsSinceNumber", text) => since = number(name, text)?,
                ("eventsUntilNumber", text) => until = number(name, text)?,
                ("content", "id-only") => with_focus = true,
                ("content", "empty") => with_focus = false,
                ("content", _) => {
                    let words = "is id-only or empty: what a resource has is sent again by $replay, or read";
                    return Err(refuse(IssueCode::NotSupported, name, words));
                }
                _ => return Err(unknown(name)),
            }
        }
        let own = self.own(caller, id, Action::Read).await?;
        let logs = self.logs(caller, id, &own).await?;
        let mut status = self.hook_status(caller, (id, &own), &logs, "query-event")?;
        let all = logs.iter().flat_map(|log| &log.newest);
        let mut all: Vec<&HookDelivery> = all
            .filter(|one| one.is_owners())
            .filter(|one| (since..=until).contains(&one.number.unwrap_or(0)))
            .collect();
        all.sort_by_key(|one| (one.number, one.first_ms));
        let more = all.get(EVENTS_MAX).map(|one| one.number.unwrap_or(0));
        let with_focus = with_focus && own.kept.subscribed.with_payload;
        let Some(list) = status["parameter"].as_array_mut() else {
            return Ok(answer(Vec::new()));
        };
        for one in all.into_iter().take(EVENTS_MAX) {
            list.push(json!({"name": "notification-event", "part": event(one, with_focus)}));
        }
        if let Some(next) = more {
            // Said, so that nobody takes a part for all.
            list.push(json!({"name": "next-event-number", "valueString": next.to_string()}));
        }
        let entry = json!([{"fullUrl": self.nameless(), "resource": status,
            "request": {"method": "GET", "url": format!("Subscription/{id}/$status")}, "response": {"status": "200"}}]);
        let bundle =
            json!({"resourceType": "Bundle", "type": "history", "total": 1, "entry": entry});
        Ok(answer(bundle.to_string().into_bytes()))
    }

    /// `Subscription/[id]/$replay`: asks for something to be sent again.
    ///
    /// # Errors
    /// As [`Record::subscription_status`]; 400 for parameters that are not understood; 422 where nothing can be sent again.
    pub async fn subscription_replay(
        &self,
        caller: &Caller,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        let of = replay_of(parameters)?;
        let own = self.own(caller, id, Action::Update).await?;
        let vault = self.vault();
        let by = (id, caller.agent.name.as_str());
        let asked = vault.ask_replay((&own.permit, None), by, &of).await;
        let replay = match asked.map_err(wrap(caller))? {
            Ok(replay) => replay,
            Err(no) => return Err(no_replay(&no)),
        };
        self.subscribing.written.notify_one();
        let body = json!({"resourceType": "Parameters", "parameter": [
            {"name": "replay", "valueString": replay.id},
            {"name": "from", "valueString": replay.from.to_string()},
            {"name": "until", "valueString": replay.until.to_string()}
        ]});
        Ok(Answer {
            status: 202,
            ..answer(body.to_string().into_bytes())
        })
    }

    /// `Subscription/[id]/$rotate-secret`: a new secret, or a new pair of keys. The secret is in the answer to this and
    /// nowhere else.
    ///
    /// # Errors
    /// As [`Record::subscription_status`]; 400 for parameters that are not understood; 422 where as many are in force as may
    /// be.
    pub async fn rotate_subscription_secret(
        &self,
        caller: &Caller,
        id: &str,
        parameters: &[(String, String)],
    ) -> Result<Answer, RecordError> {
        let (mut is_pair, mut overlap_ms) = (false, OVERLAP_HOURS * HOUR_MS);
        for (name, value) in parameters {
            match (name.as_str(), value.as_str()) {
                ("what", "secret") => is_pair = false,
                ("what", "key") => is_pair = true,
                ("what", _) => {
                    return Err(refuse(IssueCode::Value, name, "is secret or key"));
                }
                ("overlap-hours", hours) => {
                    let hours = hours.parse().unwrap_or(u64::MAX);
                    overlap_ms = hours.saturating_mul(HOUR_MS);
                    if overlap_ms > OVERLAP_MAX_MS {
                        let most = OVERLAP_MAX_MS / HOUR_MS;
                        let words = format!("is a number of hours up to {most}");
                        return Err(refuse(IssueCode::Value, name, words));
                    }
                }
                _ => return Err(unknown(name)),
            }
        }
        let own = self.own(caller, id, Action::Update).await?;
        let wall_ms = self.trust.wall_clock().now_ms();
        let how = (is_pair, wall_ms, overlap_ms);
        let made = self.vault().rotate_hook_key((&own.permit, None), id, how);
        let shown = match made.await.map_err(wrap(caller))? {
            Ok(shown) => shown,
            Err(ends_ms) => return Err(too_many(ends_ms)),
        };
        let name = if is_pair {
            "verification-key"
        } else {
            "secret"
        };
        let until = date::instant(wall_ms.saturating_add(overlap_ms));
        let body = json!({"resourceType": "Parameters", "parameter": [
            {"name": name, "valueString": shown},
            {"name": "earlier-until", "valueInstant": until}
        ]});
        Ok(answer(body.to_string().into_bytes()))
    }
}

fn unknown(name: &str) -> RecordError {
    refuse(
        IssueCode::Invalid,
        name,
        "is no parameter of this operation",
    )
}

fn number(name: &str, text: &str) -> Result<u64, RecordError> {
    let wrong = |_| refuse(IssueCode::Value, name, "is no number of an event");
    text.parse().map_err(wrong)
}

fn too_many(ends_ms: u64) -> RecordError {
    let words = format!(
        "{IN_FORCE_MAX} are in force, and the first of them ends at {}: wait until then, or say overlap-hours 0, which ends all others at once",
        date::instant(ends_ms)
    );
    RecordError::new(422, IssueCode::TooCostly, words)
}

fn no_replay(no: &NoReplay) -> RecordError {
    let code = match no {
        NoReplay::TooMany | NoReplay::TooLong => IssueCode::TooCostly,
        NoReplay::Unknown | NoReplay::Nothing => IssueCode::NotFound,
        NoReplay::Off | NoReplay::UnderWay(_) | NoReplay::Empty => IssueCode::BusinessRule,
    };
    RecordError::new(422, code, no.words())
}

/// What is to be sent again, as parameters say it.
fn replay_of(parameters: &[(String, String)]) -> Result<ReplayOf, RecordError> {
    let mut found: Option<ReplayOf> = None;
    let (mut since_ms, mut until_ms, mut since, mut until) = (None, None, None, None);
    let instant = |name: &str, text: &str| {
        let parsed = date::parse(text).and_then(|date| u64::try_from(date.start_ms).ok());
        parsed.ok_or_else(|| refuse(IssueCode::Value, name, "is no instant"))
    };
    let mut ways = 0;
    for (name, value) in parameters {
        match name.as_str() {
            "id" => found = Some(ReplayOf::Delivery(value.clone())),
            "since" => since_ms = Some(instant(name, value)?),
            "until" => until_ms = Some(instant(name, value)?),
            "eventsSinceNumber" => since = Some(number(name, value)?),
            "eventsUntilNumber" => until = Some(number(name, value)?),
            "what" => {
                found = Some(match value.as_str() {
                    "missed" => ReplayOf::Missed,
                    "since-failure" => ReplayOf::SinceFailure,
                    _ => {
                        let words = "is missed or since-failure";
                        return Err(refuse(IssueCode::Value, name, words));
                    }
                });
            }
            _ => return Err(unknown(name)),
        }
        ways += usize::from(matches!(
            name.as_str(),
            "id" | "since" | "eventsSinceNumber" | "what"
        ));
    }
    found = match (found, since_ms, since) {
        (None, Some(since_ms), None) => Some(ReplayOf::Times(since_ms, until_ms)),
        (None, None, Some(since)) => Some(ReplayOf::Numbers(since, until)),
        (found, ..) => found,
    };
    let stray = match &found {
        Some(ReplayOf::Times(..)) => until.is_some(),
        Some(ReplayOf::Numbers(..)) => until_ms.is_some(),
        _ => until_ms.is_some() || until.is_some(),
    };
    match found {
        Some(found) if ways == 1 && !stray => Ok(found),
        _ => Err(refuse(
            IssueCode::Required,
            "parameter",
            "says one of id, since (with until), eventsSinceNumber (with eventsUntilNumber) and what",
        )),
    }
}

/// The status of a subscription: `SubscriptionStatus` as R4 has it, `Parameters`. How many events there were since its start
/// is not counted (decision 154), so that the guide's member for it is left out; how many deliveries were taken is
/// Cairn's own.
fn status(id: &str, own: &Own, (logs, apart_ms): (&[HookLog], u64), kind: &str) -> Value {
    let Own { kept, book, .. } = own;
    let taken: u64 = logs.iter().map(|log| log.taken).sum();
    let mut all = vec![
        json!({"name": "subscription", "valueReference": {"reference": format!("Subscription/{id}")}}),
        json!({"name": "status", "valueCode": kept.subscribed.state.code()}),
        json!({"name": "type", "valueCode": kind}),
        json!({"name": "deliveries-taken", "valueString": taken.to_string()}),
    ];
    if let Some(words) = &kept.subscribed.error {
        all.push(json!({"name": "error", "valueCodeableConcept": {"text": words}}));
    }
    let number = |name: &str, number: u64| json!({"name": name, "valueString": number.to_string()});
    if let Some((from, until)) = book.missed(kept, apart_ms) {
        let mut part = vec![number("from", from)];
        part.extend(until.map(|until| number("until", until)));
        all.push(json!({"name": "missed", "part": part}));
    }
    if let Some(failed) = &book.failed {
        let at = date::instant(failed.at_ms);
        let part = [
            number("from", failed.number),
            json!({"name": "at", "valueInstant": at}),
        ];
        all.push(json!({"name": "failed", "part": part}));
    }
    for replay in &book.replays {
        let mut part = vec![
            json!({"name": "id", "valueString": replay.id}),
            number("from", replay.from),
            number("until", replay.until),
            json!({"name": "asked", "valueInstant": date::instant(replay.asked_ms)}),
        ];
        let done = replay.done_ms.map(date::instant);
        part.extend(done.map(|done| json!({"name": "put-on-its-way", "valueInstant": done})));
        all.push(json!({"name": "replay", "part": part}));
    }
    // What a newer program signs with is shown by it.
    let shown = book.keys.iter().map(|key| key.key.shown());
    for shown in shown.filter(|shown| !shown.is_empty()) {
        all.push(json!({"name": "verification-key", "valueString": shown}));
    }
    json!({"resourceType": "Parameters", "parameter": all})
}

/// A delivery as a `notification-event`. Which resource it is about is told where the receiver was sent it.
fn event(one: &HookDelivery, with_focus: bool) -> Vec<Value> {
    let number = one.number.unwrap_or(0);
    let mut part = vec![
        json!({"name": "event-number", "valueString": number.to_string()}),
        json!({"name": "timestamp", "valueInstant": date::instant(one.first_ms)}),
    ];
    if with_focus && one.handed {
        let reference = format!("{}/{}", one.kind, one.resource);
        part.push(json!({"name": "focus", "valueReference": {"reference": reference}}));
    }
    part.extend([
        json!({"name": "id", "valueString": one.id}),
        json!({"name": "outcome", "valueCode": one.outcome.code()}),
        json!({"name": "attempts", "valueInteger": one.attempts}),
        json!({"name": "last-attempt", "valueInstant": date::instant(one.last_ms)}),
    ]);
    if one.replays > 0 {
        part.push(json!({"name": "replays", "valueInteger": one.replays}));
    }
    let answers = one.answers.iter();
    part.extend(answers.map(|answer| json!({"name": "answer", "valueString": answer})));
    part
}
